// Holds both networks, away from the page, so that the page stays quick: answers first, then times them in turns.
import * as ort from './ort/ort.js'
import { probabilities, resize, toInput } from './pixels.js'

const WARM_UP_MS = 150 // of calls of each file before the clock counts: browsers compile hot code better while it runs
const ROUND_MS = 10 // a round is as many calls as take this long: browsers blur their clocks by up to 1 ms
const BUDGET_MS = 1500 // for all rounds of both files
const ROUNDS = [5, 25] // at least, at most

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
    estimates.push(await warmUp(call))
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
  const ratios = times[0].map((ms, round) => ms / times[1][round]) // of the same round: what slows the machine slows both
  const quartiles = [0.25, 0.5, 0.75].map((part) => quantile(ratios, part))
  postMessage({ kind: 'times', id, medians: times.map((values) => quantile(values, 0.5)), quartiles, rounds, counts })
}

// Milliseconds of the quickest call.
async function warmUp(call) {
  const start = performance.now()
  let quickest = Infinity
  for (let turn = 0; turn < 2 || performance.now() - start < WARM_UP_MS; turn++) quickest = Math.min(quickest, await clock(call, 3))
  return quickest
}

async function clock(call, count) {
  const start = performance.now()
  for (let i = 0; i < count; i++) await call()
  return (performance.now() - start) / count
}

function quantile(values, part) {
  const sorted = [...values].sort((a, b) => a - b)
  const place = part * (sorted.length - 1)
  const low = Math.floor(place)
  return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low])
}

let queue = Promise.resolve()
addEventListener('message', ({ data }) => {
  if (data.kind === 'run') latest = data.id
  const task = data.kind === 'load' ? () => load(data.models, data.threads) : () => run(data)
  queue = queue.then(task).catch((error) => postMessage({ kind: 'trouble', id: data.id, text: String(error?.message ?? error) }))
})
