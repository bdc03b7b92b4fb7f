"""PyTorch: eager, or compiled with ``torch.compile``."""

import harness

with harness.importing():
    import torch
    from torch import nn


# model and step
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 8 * 8, 256)
        self.fc2 = nn.Linear(256, 10)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def make(lr, device):
    model = Net().to(device)
    return model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=lr)


def train_step(model, criterion, optimizer, x, y):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


# end


def build(job, weights):
    torch.set_num_threads(job.threads)
    torch.set_default_dtype(getattr(torch, job.dtype))
    model, criterion, optimizer = make(job.lr, job.device)
    with torch.no_grad():
        for name, value in weights.items():
            layer, kind = name.split(".")
            getattr(getattr(model, layer), "weight" if kind == "w" else "bias").copy_(torch.from_numpy(value))
    call = model
    if job.mode == "compiled":
        torch._dynamo.reset()
        # model and step, compiled
        call = torch.compile(model)
        # end

    def tensors(x, y):
        return torch.from_numpy(x).to(job.device), torch.from_numpy(y).long().to(job.device)

    def step(x, y):
        return train_step(call, criterion, optimizer, *tensors(x, y)).item()

    def gradients(x, y):
        x, y = tensors(x, y)
        model.zero_grad()
        loss = criterion(call(x), y)
        loss.backward()
        return loss.item(), {name: _gradient(model, name) for name in weights}

    def forward(x):
        model.eval()
        with torch.no_grad():
            logits = call(torch.from_numpy(x).to(job.device)).cpu().numpy()
        model.train()
        return logits

    return harness.Network(torch.__version__, step, forward, gradients)


def _gradient(model, name):
    layer, kind = name.split(".")
    return getattr(getattr(model, layer), "weight" if kind == "w" else "bias").grad.cpu().numpy()


harness.run(build)
