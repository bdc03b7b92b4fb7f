"""tinygrad: ``TinyJit`` around the step."""

import importlib.metadata

import harness

with harness.importing():
    from tinygrad import Context, Tensor, TinyJit, nn


# model and step
class Net:
    def __init__(self):
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 8 * 8, 256)
        self.fc2 = nn.Linear(256, 10)

    def __call__(self, x):
        x = self.conv1(x).relu().max_pool2d()
        x = self.conv2(x).relu().max_pool2d()
        return self.fc2(self.fc1(x.flatten(1)).relu())


def make(lr):
    model = Net()
    return model, nn.optim.SGD(nn.state.get_parameters(model), lr=lr)


def make_step(model, optimizer):
    @TinyJit
    @Context(TRAINING=1)
    def train_step(x, y):
        optimizer.zero_grad()
        loss = model(x).sparse_categorical_crossentropy(y).backward()
        return loss.realize(*optimizer.schedule_step())

    return train_step


# end


def build(job, weights):
    if job.dtype != "float32":
        raise SystemExit("this adapter computes in float32 alone")
    model, optimizer = make(job.lr)
    for name in weights:
        parameter(model, name).assign(Tensor(weights[name])).realize()
    train_step = make_step(model, optimizer)
    infer = TinyJit(lambda x: model(x).realize())

    def step(x, y):
        return train_step(Tensor(x).realize(), Tensor(y).realize()).item()

    def forward(x):
        return infer(Tensor(x).realize()).numpy()

    def gradients(x, y):
        optimizer.zero_grad()
        with Context(TRAINING=1):
            loss = model(Tensor(x)).sparse_categorical_crossentropy(Tensor(y)).backward()
        return loss.item(), {name: parameter(model, name).grad.numpy() for name in weights}

    return harness.Network(importlib.metadata.version("tinygrad"), step, forward, gradients)


def parameter(model, name):
    layer, kind = name.split(".")
    return getattr(getattr(model, layer), "weight" if kind == "w" else "bias")


harness.run(build)
