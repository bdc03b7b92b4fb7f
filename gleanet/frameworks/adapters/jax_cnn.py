"""JAX: plain functions, ``jax.jit``, and Optax for the update."""

import harness

with harness.importing():
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax


# model and step
def conv(x, w, b):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def predict(params, x):
    x = max_pool(jax.nn.relu(conv(x, params["conv1.w"], params["conv1.b"])))
    x = max_pool(jax.nn.relu(conv(x, params["conv2.w"], params["conv2.b"])))
    x = x.reshape(x.shape[0], -1)
    x = jax.nn.relu(x @ params["fc1.w"] + params["fc1.b"])
    return x @ params["fc2.w"] + params["fc2.b"]


def loss_of(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(predict(params, x), y).mean()


def make_step(optimizer):
    @jax.jit
    def train_step(params, state, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(params, x, y)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss

    return train_step


# end


def build(job, weights):
    jax.config.update("jax_enable_x64", job.dtype == "float64")
    optimizer = optax.sgd(job.lr)
    params = {name: jnp.asarray(value) for name, value in harness.channels_last(weights).items()}
    kept = {"params": params, "state": optimizer.init(params)}
    train_step, infer, differentiate = make_step(optimizer), jax.jit(predict), jax.jit(jax.value_and_grad(loss_of))

    def step(x, y):
        kept["params"], kept["state"], loss = train_step(kept["params"], kept["state"], x, y)
        return float(loss)

    def forward(x):
        return jax.device_get(infer(kept["params"], x))

    def gradients(x, y):
        loss, found = differentiate(kept["params"], x, y)
        return float(loss), harness.from_channels_last(jax.device_get(found))

    return harness.Network(jax.__version__, step, forward, gradients, channels_last=True)


harness.run(build)
