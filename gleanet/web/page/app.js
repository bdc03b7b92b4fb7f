// The page: takes an image, asks the worker, shows what both files say.
import { middle, resize } from './pixels.js'
import { at, cards, factor, likeliest, make, milliseconds, sampleButtons, say, seen, size, trouble } from './view.js'

const LARGEST = 2048 // pixels a side that are looked at; larger photographs are first made smaller by the browser

let site
let boxes
let buttons = []
let worker
let threads = 1
let counter = 0 // of requests to the worker
let choices = 0 // of images
let shown // the image on the page: {id, image, label}
const waiting = new Map() // id -> what to do with the answers, or with an error

const name = (k) => site.classes[k] ?? `class ${k}`

async function start() {
  const response = await fetch('site.json')
  if (!response.ok) throw new Error(`site.json: the server says ${response.status}`)
  site = await response.json()
  document.title = `${site.run}: float and int8 side by side`
  at('about').append(...[site.run, site.model, site.data].filter(Boolean).map((part) => make('span', {}, part)))
  at('versions').textContent = `gleanet ${site.version}, ${site.runtime}.`
  boxes = cards(site, name)
  if (site.samples.length) {
    buttons = sampleButtons(site, choose)
    at('try-all').textContent = `Try all ${site.samples.length}`
    at('every').hidden = false
  }
  offerThreads()
  startWorker()
}

// Threads share memory, which a browser allows only to a page whose server sends the two headers for it.
function offerThreads() {
  const cores = navigator.hardwareConcurrency || 1
  if (!globalThis.crossOriginIsolated || cores < 2) return
  threads = Math.min(4, Math.ceil(cores / 2))
  const counts = Array.from({ length: Math.min(cores, 16) }, (_, i) => i + 1)
  at('threads').append(...counts.map((count) => make('option', { value: count, ...(count === threads && { selected: '' }) }, String(count))))
  at('threads-label').hidden = false
  at('threads').addEventListener('change', () => {
    threads = Number(at('threads').value)
    startWorker()
  })
}

function startWorker() {
  worker?.terminate()
  waiting.clear()
  at('try-all').disabled = false
  worker = new Worker('worker.js', { type: 'module', name: 'networks' })
  worker.addEventListener('error', (event) => fail(event.message || 'the browser could not start it'))
  worker.addEventListener('message', ({ data }) => receive(data))
  worker.postMessage({ kind: 'load', models: site.models, threads })
}

function fail(text) {
  trouble(`The networks do not run in this browser: ${text}`)
  say('verdict', 'No answer.')
}

function receive(data) {
  if (data.kind === 'ready') {
    say('verdict', site.samples.length ? 'Ready: choose a test image, or drop one of your own.' : 'Ready: drop an image.')
    describe()
    if (!shown && site.samples.length) choose(site.samples[0])
    if (shown) ask(shown).catch((error) => fail(error.message))
  } else if (data.kind === 'answers') {
    waiting.get(data.id)?.resolve(data.answers)
    waiting.delete(data.id)
  } else if (data.kind === 'times' && data.id === shown?.id) {
    times(data)
  } else if (data.kind === 'trouble') {
    waiting.get(data.id)?.reject(new Error(data.text))
    waiting.delete(data.id)
    fail(data.text)
  }
}

function describe(more = '') {
  const how = threads === 1 ? '1 thread' : `${threads} threads`
  say('how', `${site.runtime} in WebAssembly, ${how}, called from JavaScript. ${more}`)
}

function request(image, timed) {
  const id = ++counter
  const answers = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }))
  worker.postMessage({ kind: 'run', id, image, timed })
  return { id, answers }
}

/** Ask for the answers to an image, and show them unless another has been chosen by then. */
async function ask(given) {
  const { id, answers } = request(given.image, true)
  shown = { ...given, id }
  say('speed')
  at('cards').setAttribute('aria-busy', 'true')
  const found = await answers
  if (shown.id !== id) return
  const order = likeliest(found)
  boxes.forEach((box, i) => box.answer(found[i], order))
  verdict(found, given.label)
  at('cards').setAttribute('aria-busy', 'false')
}

function verdict(found, label) {
  const [plain, small] = found.map((one) => name(one.top))
  const same = found[0].top === found[1].top
  const labelled = label === undefined ? '' : ` The data says ${label}.`
  at('verdict').classList.toggle('differ', !same)
  if (same) say('verdict', 'Both say ', [plain], `.${labelled}`)
  else say('verdict', 'They differ: float says ', [plain], ', int8 says ', [small], `.${labelled}`)
}

function times({ medians, quartiles, rounds, counts }) {
  boxes.forEach((box, i) => box.time(medians[i]))
  const bytes = site.models[0].bytes / site.models[1].bytes
  const smaller = bytes >= 1 ? `${factor(bytes)} times smaller` : `${factor(1 / bytes)} times larger`
  const sizes = `${size(site.models[1].bytes)} against ${size(site.models[0].bytes)}`
  const both = `${milliseconds(medians[1])} against ${milliseconds(medians[0])}`
  const range = `${factor(quartiles[0])} to ${factor(quartiles[2])} times`
  say('speed', 'int8 is ', [smaller], ` (${sizes}) and, in this browser, `, [speed(quartiles)], `: ${both} (half of the rounds: ${range}).`)
  describe(`Median of ${rounds} rounds of ${counts[0]} (float) and ${counts[1]} (int8) calls, taken in turns after warm-up.`)
}

// Float time over int8 time of the same round: [quarter, median, three quarters].
function speed([low, middle, high]) {
  if (low <= 1 && high >= 1) return 'as fast as float as far as these rounds can tell'
  return middle > 1 ? `${factor(middle)} times as fast as float` : `slower than float, ${factor(middle)} of its speed`
}

/** An image file or blob -> {rgba, width, height}: its middle, in the proportions of the networks' input. */
async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: 'none' })
  const [{ width, height }] = site.models
  const [left, top, w, h] = middle(bitmap.width, bitmap.height, width, height)
  const scale = Math.min(1, Math.max(LARGEST, width, height) / Math.max(w, h))
  const canvas = make('canvas')
  canvas.width = Math.max(1, Math.round(w * scale))
  canvas.height = Math.max(1, Math.round(h * scale))
  const context = canvas.getContext('2d', { willReadFrequently: true })
  context.fillStyle = '#fff' // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height)
  context.imageSmoothingQuality = 'high'
  context.drawImage(bitmap, left, top, w, h, 0, 0, canvas.width, canvas.height)
  bitmap.close()
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height)
  return { rgba: data, width: canvas.width, height: canvas.height }
}

async function show(turn, blob, words, label) {
  let image
  try {
    image = await decode(blob)
  } catch {
    trouble(`${words} is not an image that this browser can read: give a PNG, JPEG or WebP file.`)
    return
  }
  if (turn !== choices) return // another was chosen meanwhile
  const [{ width, height }] = site.models
  seen(resize(image.rgba, image.width, image.height, width, height), width, height, `${words}, ${width} by ${height} pixels`)
  trouble('')
  await ask({ image, label }).catch((error) => fail(error.message))
}

async function choose(sample) {
  const turn = ++choices
  press(sample)
  try {
    await show(turn, await blobOf(sample), `Test image ${sample.index}`, sample.label)
  } catch (error) {
    trouble(`The sample cannot be read: ${error.message}`)
  }
}

async function blobOf(sample) {
  const response = await fetch(sample.href)
  if (!response.ok) throw new Error(`${sample.href}: the server says ${response.status}`)
  return response.blob()
}

function press(sample) {
  buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(site.samples[i] === sample)))
}

function take(file) {
  if (!file || !site) return
  press(null)
  show(++choices, file, file.name)
}

async function tryAll() {
  at('try-all').disabled = true
  const count = { agree: 0, plain: 0, small: 0, done: 0 }
  for (const sample of site.samples) {
    const [plain, small] = await request(await decode(await blobOf(sample)), false).answers
    count.agree += plain.top === small.top
    count.plain += name(plain.top) === sample.label
    count.small += name(small.top) === sample.label
    count.done += 1
  }
  const few = 'Too few images for an accuracy: the report has that.'
  say('tally', 'The two agree on ', [`${count.agree} of ${count.done}`], `; float is right on ${count.plain}, int8 on ${count.small}. ${few}`)
  at('try-all').disabled = false
}

at('file').addEventListener('change', (event) => take(event.target.files[0]))
at('try-all').addEventListener('click', () => tryAll().catch((error) => trouble(`The samples cannot be read: ${error.message}`)))
for (const kind of ['dragover', 'dragleave', 'drop']) {
  addEventListener(kind, (event) => {
    event.preventDefault()
    at('drop').classList.toggle('over', kind === 'dragover')
    if (kind === 'drop') take(event.dataTransfer.files[0])
  })
}
start().catch((error) => fail(error.message))
