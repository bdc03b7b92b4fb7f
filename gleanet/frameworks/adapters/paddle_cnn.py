"""PaddlePaddle 3, dynamic."""

import harness

with harness.importing():
    import paddle
    import paddle.nn.functional as F
    from paddle import nn


# model and step
class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2D(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 8 * 8, 256)
        self.fc2 = nn.Linear(256, 10)
        self.pool = nn.MaxPool2D(2)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def make(lr):
    model = Net()
    return model, paddle.optimizer.SGD(lr, parameters=model.parameters())


def train_step(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()
    return loss


# end


def build(job, weights):
    paddle.set_device("cpu")
    paddle.set_default_dtype(job.dtype)
    model, optimizer = make(job.lr)

    def parameter(name):
        layer, kind = name.split(".")
        return getattr(getattr(model, layer), "weight" if kind == "w" else "bias")

    for name, value in weights.items():
        parameter(name).set_value(harness.np.ascontiguousarray(value.T if name.startswith("fc") else value))

    def tensors(x, y):
        return paddle.to_tensor(x), paddle.to_tensor(y.astype("int64"))

    def step(x, y):
        return float(train_step(model, optimizer, *tensors(x, y)))

    def forward(x):
        with paddle.no_grad():
            return model(paddle.to_tensor(x)).numpy()

    def gradients(x, y):
        x, y = tensors(x, y)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        found = {name: parameter(name).grad.numpy() for name in weights}
        optimizer.clear_grad()
        return float(loss), {name: value.T if name.startswith("fc") else value for name, value in found.items()}

    return harness.Network(paddle.__version__, step, forward, gradients)


harness.run(build)
