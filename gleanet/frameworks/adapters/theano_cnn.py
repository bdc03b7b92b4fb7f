"""Theano 0.9 and 1.0."""

import harness

with harness.importing():
    import theano
    import theano.tensor as T
    from theano.tensor.nnet import categorical_crossentropy, conv2d, relu, softmax
    from theano.tensor.signal.pool import pool_2d


# model and step
def make(weights, lr):
    x, y = T.tensor4("x"), T.ivector("y")
    params = {name: theano.shared(value, name) for name, value in weights.items()}

    def conv(x, w, b):
        return conv2d(x, w, border_mode="half", filter_flip=False) + b.dimshuffle("x", 0, "x", "x")

    h = pool_2d(relu(conv(x, params["conv1.w"], params["conv1.b"])), (2, 2), ignore_border=True)
    h = pool_2d(relu(conv(h, params["conv2.w"], params["conv2.b"])), (2, 2), ignore_border=True)
    h = relu(T.dot(h.flatten(2), params["fc1.w"]) + params["fc1.b"])
    logits = T.dot(h, params["fc2.w"]) + params["fc2.b"]
    loss = categorical_crossentropy(softmax(logits), y).mean()
    gradients = T.grad(loss, list(params.values()))
    updates = [(p, p - lr * g) for p, g in zip(params.values(), gradients)]
    return x, y, params, logits, loss, gradients, updates


def make_step(x, y, loss, updates):
    return theano.function([x, y], loss, updates=updates)


# end


def build(job, weights):
    weights = dict(weights, **{name: weights[name].T.copy() for name in ("fc1.w", "fc2.w")})
    x, y, params, logits, loss, grads, updates = make(weights, harness.np.asarray(job.lr, job.dtype))
    made = {}

    def lazily(name, make_function):
        if name not in made:
            made[name] = make_function()
        return made[name]

    def step(images, labels):
        return float(lazily("step", lambda: make_step(x, y, loss, updates))(images, labels))

    def forward(images):
        return lazily("forward", lambda: theano.function([x], logits))(images)

    def gradients(images, labels):
        found = lazily("gradients", lambda: theano.function([x, y], [loss] + grads))(images, labels)
        by_name = dict(zip(params, found[1:]))
        by_name.update({name: by_name[name].T for name in ("fc1.w", "fc2.w")})
        return float(found[0]), by_name

    return harness.Network(theano.__version__, step, forward, gradients)


harness.run(build)
