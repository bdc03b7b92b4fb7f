"""ONNX Runtime: the network as an ONNX file; inference alone."""

import harness

with harness.importing():
    import onnxruntime


# model and step
def make(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def infer(session, x):
    return session.run(None, {"x": x})[0]


# end


def build(job, weights):
    session = make(job.model, job.threads)
    return harness.Network(onnxruntime.__version__, forward=lambda x: infer(session, x))


harness.run(build)
