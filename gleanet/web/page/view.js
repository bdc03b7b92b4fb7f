// What is on the page. Every name from outside becomes text, never markup.

const SHOWN = 5 // classes a card

export const at = (id) => document.getElementById(id)

/** An element with attributes and children; strings become text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** As in the report: 1 kB = 1000 bytes, from 10 MB on in MB. */
export function size(bytes) {
  if (bytes >= 10_000_000) return `${digits(bytes / 1e6, 1)} MB`
  return bytes >= 1000 ? `${digits(bytes / 1e3, 0)} kB` : `${bytes} bytes`
}

/** Three significant digits. */
export function milliseconds(ms) {
  return `${digits(ms, ms < 1 ? 3 : ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`
}

export function factor(ratio) {
  return digits(ratio, ratio < 0.995 ? 2 : ratio < 9.95 ? 1 : 0)
}

function digits(value, decimals) {
  return value.toLocaleString('en', { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
}

/** To a tenth; what is less than that says so, at both ends. */
export function percent(p) {
  if (p > 0 && p < 0.0005) return '< 0.1 %'
  return p < 1 && p > 0.9995 ? '> 99.9 %' : `${(100 * p).toFixed(1)} %`
}

export function trouble(text) {
  at('trouble').hidden = !text
  at('trouble').textContent = text
}

/** The two empty cards; returns, for each, how to fill it. */
export function cards(site, name) {
  return site.models.map((model, index) => {
    const id = `card-${index}`
    const top = make('p', { class: 'class' })
    const time = make('p', { class: 'time' })
    const bars = make('ol', { class: 'bars', 'aria-label': `Probabilities, ${model.label}` })
    const title = make('h3', { id }, model.label)
    const file = make('p', { class: 'file' }, `${model.file}, ${model.what}, ${size(model.bytes)}`)
    at('cards').append(make('article', { class: 'card', 'aria-labelledby': id, 'data-label': model.label }, title, file, top, time, bars))
    return {
      answer(found, shown) {
        top.textContent = name(found.top)
        time.textContent = ''
        bars.replaceChildren(...(found.probabilities ? shown.map((k) => bar(name(k), found.probabilities[k], k, k === found.top)) : []))
        if (!found.probabilities) time.textContent = 'This file gives the class only, not its probability.'
      },
      time(ms) {
        const images = model.batch > 1 ? ` for a call of ${model.batch} images` : ''
        time.textContent = `${milliseconds(ms)}${images}`
      },
    }
  })
}

function bar(name, p, index, top) {
  const fill = make('div', { class: 'fill' })
  fill.style.width = `${100 * Math.min(1, Math.max(0, p))}%`
  const track = make('div', { class: 'track', 'aria-hidden': 'true' }, fill)
  const label = make('span', { class: 'name', title: name }, name)
  const row = make('li', { class: top ? 'top' : '', 'data-class': index, 'data-p': p }, label, make('span', { class: 'percent' }, percent(p)), track)
  return row
}

/** The classes to show: the likeliest of either file, the same rows in both cards. */
export function likeliest(answers) {
  const lists = answers.map((one) => one.probabilities).filter(Boolean)
  const count = lists[0]?.length ?? 0
  const best = Array.from({ length: count }, (_, k) => Math.max(...lists.map((list) => list[k] ?? 0)))
  const ranked = best.map((_, k) => k).sort((a, b) => best[b] - best[a])
  const kept = ranked.slice(0, SHOWN)
  for (const { top } of answers) if (top < count && !kept.includes(top)) kept.push(top)
  return kept
}

/** One sentence in a live region: strings, and [strings] that are strong. */
export function say(id, ...parts) {
  at(id).replaceChildren(...parts.map((part) => (Array.isArray(part) ? make('strong', {}, part[0]) : part)))
}

/** The image as the networks see it, on the page. */
export function seen(rgba, width, height, words) {
  const canvas = at('seen')
  canvas.width = width
  canvas.height = height
  canvas.getContext('2d').putImageData(new ImageData(rgba, width, height), 0, 0)
  canvas.setAttribute('aria-label', words)
}

export function sampleButtons(site, choose) {
  const title = site.samples.length === 1 ? 'One test image' : `${site.samples.length} test images`
  at('own-title').textContent = `${title} of ${site.data}, drawn with the run's seed`
  at('own').hidden = false
  return site.samples.map((sample) => {
    const picture = make('img', { src: sample.href, alt: '', width: '64', height: '64' })
    const words = `Test image ${sample.index}, labelled ${sample.label}`
    const button = make('button', { type: 'button', 'aria-pressed': 'false', 'aria-label': words, title: words }, picture, make('span', {}, sample.label))
    button.addEventListener('click', () => choose(sample))
    at('samples').append(make('li', {}, button))
    return button
  })
}
