"""TensorFlow 1.2 and 1.15, and 2 through ``tensorflow.compat.v1``: a graph and a session, with ``tf.nn`` or (1.2) ``tf.layers``."""

import harness

with harness.importing():
    import tensorflow as tf

    version = tf.__version__
    if not version.startswith("1."):
        tf = tf.compat.v1
        tf.disable_v2_behavior()


# model and step, graph
def conv(x, w, b):
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding="SAME"), b))


def max_pool(x):
    return tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")


def make(weights, lr, dtype):
    x = tf.placeholder(dtype, [None, 32, 32, 3])
    y = tf.placeholder(tf.int32, [None])
    params = {name: tf.Variable(value) for name, value in weights.items()}
    h = max_pool(conv(x, params["conv1.w"], params["conv1.b"]))
    h = max_pool(conv(h, params["conv2.w"], params["conv2.b"]))
    h = tf.reshape(h, [-1, 8 * 8 * 64])
    h = tf.nn.relu(tf.matmul(h, params["fc1.w"]) + params["fc1.b"])
    logits = tf.matmul(h, params["fc2.w"]) + params["fc2.b"]
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    train = tf.train.GradientDescentOptimizer(lr).minimize(loss)
    return x, y, params, logits, loss, train


# end


# model and step, layers
def make_with_layers(lr, dtype):
    x = tf.placeholder(dtype, [None, 32, 32, 3])
    y = tf.placeholder(tf.int32, [None])
    h = tf.layers.conv2d(x, 32, 3, padding="same", activation=tf.nn.relu)
    h = tf.layers.max_pooling2d(h, 2, 2)
    h = tf.layers.conv2d(h, 64, 3, padding="same", activation=tf.nn.relu)
    h = tf.layers.max_pooling2d(h, 2, 2)
    h = tf.layers.dense(tf.reshape(h, [-1, 8 * 8 * 64]), 256, activation=tf.nn.relu)
    logits = tf.layers.dense(h, 10)
    loss = tf.losses.sparse_softmax_cross_entropy(labels=y, logits=logits)
    train = tf.train.GradientDescentOptimizer(lr).minimize(loss)
    return x, y, logits, loss, train


# end


# model and step
def train_step(session, train, loss, feed):
    return session.run([train, loss], feed_dict=feed)[1]


# end


NAMES = ("conv1.w", "conv1.b", "conv2.w", "conv2.b", "fc1.w", "fc1.b", "fc2.w", "fc2.b")


def build(job, weights):
    tf.reset_default_graph()
    weights = harness.channels_last(weights)
    if job.mode == "layers":
        x, y, logits, loss, train = make_with_layers(job.lr, job.dtype)
        variables = tf.trainable_variables()
        put_in = [variable.assign(weights[name]) for variable, name in zip(variables, NAMES)]
    else:
        x, y, params, logits, loss, train = make(weights, job.lr, job.dtype)
        variables, put_in = [params[name] for name in NAMES], []
    grads = tf.gradients(loss, variables)
    config = tf.ConfigProto(intra_op_parallelism_threads=job.threads, inter_op_parallelism_threads=job.threads)
    session = tf.Session(config=config)
    session.run(tf.global_variables_initializer())
    session.run(put_in)

    def step(images, labels):
        return train_step(session, train, loss, {x: images, y: labels})

    def forward(images):
        return session.run(logits, feed_dict={x: images})

    def gradients(images, labels):
        found, value = session.run([grads, loss], feed_dict={x: images, y: labels})
        return value, harness.from_channels_last(dict(zip(NAMES, found)))

    return harness.Network(version, step, forward, gradients, channels_last=True)


harness.run(build)
