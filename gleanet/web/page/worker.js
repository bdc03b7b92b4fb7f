// Holds both networks, away from the page, so that the page stays quick: answers first, then times them in turns.
import * as ort from './ort/ort.js'
import { probabilities, resize, toInput } from './pixels.js'

const WARM_UP = 3 // calls of each file before the clock runs
const ROUND_MS = 5 // a round is as many calls as take this long: browsers blur their clocks by up to 1 ms
const BUDGET_MS = 1500 // for all rounds of both files
const ROUNDS = [5, 15] // at least, at most

let networks = []
let latest = 0

const address = (name) => new URL(name, import.meta.url).href
const breathe = () => new Promise((resolve) => setTimeout(resolve)) // lets a newer image in

async function load(models, threads) {
  ort.env.logLevel = 'error'
  ort.env.wasm.numThreads = threads
  ort.env.wasm.wasmPaths = { mjs: address('ort/ort-wasm.js'), wasm: address('ort/ort-wasm.wasm') }
  for (const model of models) {
    const response = await fetch(address(model.href))
    if (!response.ok) throw new Error(`${model.href}: the server says ${response.status}`)
    const bytes = new Uint8Array(await response.arrayBuffer())
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'] })
    networks.push({ model, session })
  }
  postMessage({ kind: 'ready', threads })
}

function feed({ model, session }, image) {
  const { batch, channels, height, width, layout, dtype } = model
  const shape = layout === 'NHWC' ? [batch, height, width, channels] : [batch, channels, height, width]
  const pixels = resize(image.rgba, image.width, image.height, width, height)
  const tensor = new ort.Tensor(dtype, toInput(pixels, model), shape)
  return () => session.run({ [model.input]: tensor }, [model.output])
}

function answer(model, output) {
  const length = output.data.length / model.batch
  const row = Array.from(output.data.slice(0, length), Number)
  if (!row.every(Number.isFinite)) throw new Error(`${model.file} gives numbers that are not finite`)
  if (model.gives === 'argmax') return { top: row[0], probabilities: null }
  const p = probabilities(row, model.gives)
  return { top: p.indexOf(p.reduce((a, b) => Math.max(a, b), -Infinity)), probabilities: p }
}

async function run({ id, image, timed }) {
  const calls = networks.map((network) => feed(network, image))
  const answers = []
  for (const [index, call] of calls.entries()) {
    const { model } = networks[index]
    answers.push(answer(model, (await call())[model.output]))
  }
  postMessage({ kind: 'answers', id, answers })
  if (timed) await time(id, calls)
}

async function time(id, calls) {
  const estimates = []
  for (const call of calls) {
    for (let i = 0; i < WARM_UP; i++) await call()
    estimates.push(await clock(call, 3))
    await breathe()
    if (id !== latest) return
  }
  const counts = estimates.map((ms) => Math.max(1, Math.min(1000, Math.ceil(ROUND_MS / Math.max(ms, 0.001)))))
  const turn = counts.reduce((sum, count, i) => sum + count * estimates[i], 0)
  const rounds = Math.max(ROUNDS[0], Math.min(ROUNDS[1], Math.floor(BUDGET_MS / turn)))
  const times = calls.map(() => [])
  for (let round = 0; round < rounds; round++) {
    for (const [index, call] of calls.entries()) times[index].push(await clock(call, counts[index]))
    await breathe()
    if (id !== latest) return
  }
  const medians = times.map((values) => median(values))
  postMessage({ kind: 'times', id, medians, rounds, counts })
}

async function clock(call, count) {
  const start = performance.now()
  for (let i = 0; i < count; i++) await call()
  return (performance.now() - start) / count
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

let queue = Promise.resolve()
addEventListener('message', ({ data }) => {
  if (data.kind === 'run') latest = data.id
  const task = data.kind === 'load' ? () => load(data.models, data.threads) : () => run(data)
  queue = queue.then(task).catch((error) => postMessage({ kind: 'trouble', id: data.id, text: String(error?.message ?? error) }))
})
