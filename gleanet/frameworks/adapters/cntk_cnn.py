"""CNTK 2.7: the layers library and a ``Trainer``."""

import harness

with harness.importing():
    import cntk as C
    from cntk.layers import Convolution2D, Dense, MaxPooling, Sequential, default_options

np = harness.np


# model and step
def make(lr):
    x, y = C.input_variable((3, 32, 32)), C.input_variable(10)
    with default_options(activation=C.relu):
        model = Sequential(
            [
                Convolution2D((3, 3), 32, pad=True, name="conv1"),
                MaxPooling((2, 2), strides=2),
                Convolution2D((3, 3), 64, pad=True, name="conv2"),
                MaxPooling((2, 2), strides=2),
                Dense(256, name="fc1"),
                Dense(10, activation=None, name="fc2"),
            ]
        )(x)
    loss = C.cross_entropy_with_softmax(model, y)
    learner = C.sgd(model.parameters, C.learning_parameter_schedule(lr))
    return x, y, model, loss, C.Trainer(model, (loss, None), [learner])


def train_step(trainer, data):
    trainer.train_minibatch(data)
    return trainer.previous_minibatch_loss_average


# end


def build(job, weights):
    C.device.try_set_default_device(C.device.cpu())
    C.cntk_py.set_max_num_cputhreads(job.threads)
    if job.dtype != "float32":
        raise SystemExit("this adapter computes in float32 alone")
    x, y, model, loss, trainer = make(job.lr)
    shapes = {"conv1.b": (32, 1, 1), "conv2.b": (64, 1, 1)}

    def parameter(name):
        layer, kind = name.split(".")
        return getattr(getattr(model, layer), "W" if kind == "w" else "b")

    for name, value in weights.items():
        if name == "fc1.w":
            value = value.T.reshape(64, 8, 8, 256)
        elif name == "fc2.w":
            value = value.T
        parameter(name).value = np.ascontiguousarray(value.reshape(shapes.get(name, value.shape)))
    one_hot = np.eye(10, dtype=np.float32)

    def step(images, labels):
        return train_step(trainer, {x: images, y: one_hot[labels]})

    def forward(images):
        return model.eval({x: images})

    def gradients(images, labels):
        data = {x: images, y: one_hot[labels]}
        names = sorted(weights)
        found = loss.grad(data, wrt=[parameter(name) for name in names])
        by_name = {name: np.asarray(found[parameter(name)]) / len(images) for name in names}  # sums over the batch
        by_name["fc1.w"] = by_name["fc1.w"].reshape(4096, 256).T
        by_name["fc2.w"] = by_name["fc2.w"].T
        return float(np.mean(loss.eval(data))), {name: value.reshape(weights[name].shape) for name, value in by_name.items()}

    return harness.Network(C.__version__, step, forward, gradients)


harness.run(build)
