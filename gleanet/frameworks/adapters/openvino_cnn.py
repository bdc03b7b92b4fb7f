"""OpenVINO: the network as an ONNX file; inference alone."""

import harness

with harness.importing():
    import openvino


# model and step
def make(path, threads):
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(path, "CPU", settings)


def infer(compiled, x):
    return compiled(x)[0]


# end


def build(job, weights):
    compiled = make(job.model, job.threads)
    return harness.Network(openvino.__version__.split("-")[0], forward=lambda x: infer(compiled, x))


harness.run(build)
