"""PyTensor 3: the heir of Theano, without its convolution and pooling: here they are slices, reshapes and a matrix product."""

import harness

with harness.importing():
    import pytensor
    import pytensor.tensor as pt


# model and step
def conv(x, w, b):
    n, height, width, channels = x.type.shape
    padded = pt.zeros((n, height + 2, width + 2, channels), dtype=x.dtype)
    padded = padded[:, 1:-1, 1:-1].set(x)
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    columns = pt.concatenate(shifted, axis=3).reshape((n * height * width, 9 * channels))
    out = columns @ w.reshape((9 * channels, w.type.shape[3])) + b
    return out.reshape((n, height, width, w.type.shape[3]))


def relu(x):
    return pt.maximum(x, 0)


def max_pool(x):
    n, height, width, channels = x.type.shape
    return x.reshape((n, height // 2, 2, width // 2, 2, channels)).max(axis=(2, 4))


def make(weights, lr, batch):
    x, y = pt.tensor("x", shape=(batch, 32, 32, 3)), pt.ivector("y")
    params = {name: pytensor.shared(value, name, shape=value.shape) for name, value in weights.items()}
    h = max_pool(relu(conv(x, params["conv1.w"], params["conv1.b"])))
    h = max_pool(relu(conv(h, params["conv2.w"], params["conv2.b"])))
    h = relu(h.reshape((batch, 8 * 8 * 64)) @ params["fc1.w"] + params["fc1.b"])
    logits = h @ params["fc2.w"] + params["fc2.b"]
    loss = -pt.special.log_softmax(logits, axis=1)[pt.arange(batch), y].mean()
    gradients = pt.grad(loss, list(params.values()))
    updates = [(p, p - lr * g) for p, g in zip(params.values(), gradients)]
    return x, y, params, logits, loss, gradients, updates


def make_step(x, y, loss, updates):
    return pytensor.function([x, y], loss, updates=updates)


# end


def build(job, weights):
    lr = harness.np.asarray(job.lr, job.dtype)
    x, y, params, logits, loss, grads, updates = make(harness.channels_last(weights), lr, harness.BATCH)
    made = {}

    def lazily(name, make_function):
        if name not in made:
            made[name] = make_function()
        return made[name]

    def step(images, labels):
        return float(lazily("step", lambda: make_step(x, y, loss, updates))(images, labels))

    def forward(images):
        return lazily("forward", lambda: pytensor.function([x], logits))(images)

    def gradients(images, labels):
        found = lazily("gradients", lambda: pytensor.function([x, y], [loss] + grads))(images, labels)
        return float(found[0]), harness.from_channels_last(dict(zip(params, found[1:])))

    return harness.Network(pytensor.__version__, step, forward, gradients, channels_last=True)


harness.run(build)
