"""TensorFlow 2: eager variables, ``GradientTape``, and ``tf.function``, on the level of ``tf.nn``."""

import harness

with harness.importing():
    import tensorflow as tf


# model and step
class Net(tf.Module):
    def __init__(self, weights):
        super().__init__()
        self.params = {name: tf.Variable(value) for name, value in weights.items()}

    def conv(self, x, name):
        w, b = self.params[name + ".w"], self.params[name + ".b"]
        return tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, w, 1, "SAME") + b), 2, 2, "VALID")

    def __call__(self, x):
        x = self.conv(self.conv(x, "conv1"), "conv2")
        x = tf.reshape(x, [-1, 8 * 8 * 64])
        x = tf.nn.relu(x @ self.params["fc1.w"] + self.params["fc1.b"])
        return x @ self.params["fc2.w"] + self.params["fc2.b"]


def value_and_gradients(model, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x)))
    return loss, tape.gradient(loss, model.params)


def make_step(model, lr):
    @tf.function
    def train_step(x, y):
        loss, gradients = value_and_gradients(model, x, y)
        for name, gradient in gradients.items():
            model.params[name].assign_sub(lr * gradient)
        return loss

    return train_step


# end


tf.config.threading.set_intra_op_parallelism_threads(harness.THREADS)
tf.config.threading.set_inter_op_parallelism_threads(harness.THREADS)


def build(job, weights):
    model = Net(harness.channels_last(weights))
    train_step, infer = make_step(model, job.lr), tf.function(model)
    differentiate = tf.function(lambda x, y: value_and_gradients(model, x, y))

    def step(x, y):
        return train_step(tf.constant(x), tf.constant(y)).numpy()

    def forward(x):
        return infer(tf.constant(x)).numpy()

    def gradients(x, y):
        loss, found = differentiate(tf.constant(x), tf.constant(y))
        return loss.numpy(), harness.from_channels_last({name: value.numpy() for name, value in found.items()})

    return harness.Network(tf.__version__, step, forward, gradients, channels_last=True)


harness.run(build)
