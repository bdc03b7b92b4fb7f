"""Flax NNX on JAX, with Optax for the update."""

import harness

with harness.importing():
    import flax
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx


# model and step
class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 32, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.fc1 = nnx.Linear(64 * 8 * 8, 256, rngs=rngs)
        self.fc2 = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
        x = nnx.relu(self.fc1(x.reshape(x.shape[0], -1)))
        return self.fc2(x)


def make(lr):
    model = Net(nnx.Rngs(0))
    return model, nnx.Optimizer(model, optax.sgd(lr), wrt=nnx.Param)


def loss_of(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def train_step(model, optimizer, x, y):
    loss, gradients = nnx.value_and_grad(loss_of)(model, x, y)
    optimizer.update(model, gradients)
    return loss


# end


def build(job, weights):
    jax.config.update("jax_enable_x64", job.dtype == "float64")
    model, optimizer = make(job.lr)
    for name, value in harness.channels_last(weights).items():
        layer, kind = name.split(".")
        setattr(getattr(model, layer), "kernel" if kind == "w" else "bias", nnx.Param(jnp.asarray(value)))
    infer = nnx.jit(lambda net, x: net(x))
    differentiate = nnx.jit(nnx.value_and_grad(loss_of))

    def step(x, y):
        return float(train_step(model, optimizer, x, y))

    def forward(x):
        return jax.device_get(infer(model, x))

    def gradients(x, y):
        loss, found = differentiate(model, x, y)
        arrays = {}
        for name in weights:
            layer, kind = name.split(".")
            arrays[name] = jax.device_get(found[layer]["kernel" if kind == "w" else "bias"][...])
        return float(loss), harness.from_channels_last(arrays)

    return harness.Network(flax.__version__, step, forward, gradients, channels_last=True)


harness.run(build)
