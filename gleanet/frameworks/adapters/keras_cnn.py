"""Keras 3 on TensorFlow: a sequential model, ``compile`` and ``train_on_batch``."""

import harness

with harness.importing():
    import keras
    import tensorflow as tf
    from keras import layers


# model and step
def make(lr):
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(lr), loss=loss)
    return model


def train_step(model, x, y):
    return model.train_on_batch(x, y)


# end


tf.config.threading.set_intra_op_parallelism_threads(harness.THREADS)
tf.config.threading.set_inter_op_parallelism_threads(harness.THREADS)
NAMES = ("conv1.w", "conv1.b", "conv2.w", "conv2.b", "fc1.w", "fc1.b", "fc2.w", "fc2.b")


def build(job, weights):
    keras.backend.set_floatx(job.dtype)
    model = make(job.lr)
    ours = harness.channels_last(weights)
    model.set_weights([ours[name] for name in NAMES])

    def step(x, y):
        model.reset_metrics()  # the loss that is returned is a mean since the last reset
        return train_step(model, x, y)

    def forward(x):
        return model.predict_on_batch(x)

    @tf.function
    def differentiate(x, y):
        with tf.GradientTape() as tape:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, model(x, training=True))
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    def gradients(x, y):
        loss, found = differentiate(tf.constant(x), tf.constant(y))
        return loss.numpy(), harness.from_channels_last({name: value.numpy() for name, value in zip(NAMES, found)})

    return harness.Network(keras.__version__, step, forward, gradients, channels_last=True)


harness.run(build)
