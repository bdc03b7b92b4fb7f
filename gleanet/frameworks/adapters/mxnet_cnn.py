"""MXNet 1.9: Gluon, hybridized, with a ``Trainer``."""

import harness

if not hasattr(harness.np, "bool"):  # numpy 1.24 removed a name that MXNet 1.9 still asks for
    harness.np.bool = bool

with harness.importing():
    import mxnet as mx
    from mxnet import autograd, gluon
    from mxnet.gluon import nn


# model and step
def make(lr):
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(32, 3, padding=1, activation="relu"),
        nn.MaxPool2D(),
        nn.Conv2D(64, 3, padding=1, activation="relu"),
        nn.MaxPool2D(),
        nn.Dense(256, activation="relu"),
        nn.Dense(10),
    )
    net.initialize()
    net.hybridize()
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    return net, loss, gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr})


def train_step(net, criterion, trainer, x, y):
    with autograd.record():
        loss = criterion(net(x), y)
    loss.backward()
    trainer.step(x.shape[0])
    return loss


# end


LAYERS = {"conv1": 0, "conv2": 2, "fc1": 4, "fc2": 5}


def build(job, weights):
    net, criterion, trainer = make(job.lr)
    net.cast(job.dtype)
    net(mx.nd.zeros((1, 3, 32, 32), dtype=job.dtype))  # weights get their shapes from the first input

    def parameter(name):
        layer, kind = name.split(".")
        return getattr(net[LAYERS[layer]], "weight" if kind == "w" else "bias")

    for name, value in weights.items():
        parameter(name).set_data(mx.nd.array(value, dtype=job.dtype))

    def arrays(x, y):
        return mx.nd.array(x, dtype=job.dtype), mx.nd.array(y)

    def step(x, y):
        return train_step(net, criterion, trainer, *arrays(x, y)).mean().asscalar()

    def forward(x):
        return net(mx.nd.array(x, dtype=job.dtype)).asnumpy()

    def gradients(x, y):
        x, y = arrays(x, y)
        with autograd.record():
            loss = criterion(net(x), y)
        loss.backward()
        return loss.mean().asscalar(), {name: parameter(name).grad().asnumpy() / x.shape[0] for name in weights}

    return harness.Network(mx.__version__, step, forward, gradients)


harness.run(build)
