// Pixels to network input: cut, resize, order, normalise. Pure arithmetic, the same in every browser.

/** The middle of an image w x h, as large as fits the proportions of width x height: [left, top, cut width, cut height]. */
export function middle(w, h, width, height) {
  const scale = Math.min(w / width, h / height)
  const [cw, ch] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))]
  return [Math.floor((w - cw) / 2), Math.floor((h - ch) / 2), cw, ch]
}

/** RGBA bytes [h, w, 4] -> the same resized to [height, width, 4]: a triangle filter as wide as the shrinkage, across, then down.
    With equal sizes every byte stays as it is. This is what Pillow calls BILINEAR, rounding between the passes included. */
export function resize(rgba, w, h, width, height) {
  const across = w === width ? rgba : pass(rgba, h, w, width, [w * 4, 4], [width * 4, 4])
  return h === height ? across : pass(across, width, h, height, [4, width * 4], [4, width * 4])
}

// Lines of `from` pixels become lines of `to`; the pairs are the distances, in bytes, of two lines and of two pixels of a line.
function pass(source, lines, from, to, [step, next], [stepOut, nextOut]) {
  const out = new Uint8ClampedArray(lines * to * 4)
  filters(from, to).forEach(({ first, weights }, place) => {
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < 4; channel++) {
        let sum = 0
        for (let i = 0; i < weights.length; i++) sum += weights[i] * source[line * step + (first + i) * next + channel]
        out[line * stepOut + place * nextOut + channel] = Math.floor(sum + 0.5)
      }
    }
  })
  return out
}

// For each of `to` places: the first of `from` pixels that counts, and the weights from there on; they sum to 1.
function filters(from, to) {
  const scale = from / to
  const reach = Math.max(scale, 1)
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale
    const first = Math.max(0, Math.floor(centre - reach + 0.5))
    const end = Math.min(from, Math.floor(centre + reach + 0.5))
    const weights = Array.from({ length: end - first }, (_, i) => Math.max(0, 1 - Math.abs(first + i - centre + 0.5) / reach))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    return { first, weights: weights.map((weight) => weight / total) }
  })
}

/** RGBA bytes [height, width, 4] of the model's own size -> what the model takes: batch x image, Float32Array or Uint8Array.
    Floats are factor * pixel + offset, both rounded to float32, as gleanet computes them in training and in graphs. */
export function toInput(rgba, model) {
  const { batch, channels, height, width, layout, preprocess } = model
  const area = height * width
  const image = model.dtype === 'uint8' ? new Uint8Array(channels * area) : new Float32Array(channels * area)
  const order = channels === 1 ? [0] : preprocess?.color === 'BGR' ? [2, 1, 0] : [0, 1, 2]
  for (let c = 0; c < channels; c++) {
    const { factor, offset } = affine(preprocess, c)
    for (let i = 0; i < area; i++) {
      const pixel = channels === 1 ? grey(rgba, 4 * i) : rgba[4 * i + order[c]]
      const place = layout === 'NHWC' ? i * channels + c : c * area + i
      image[place] = model.dtype === 'uint8' ? pixel : Math.fround(pixel * factor) + offset
    }
  }
  if (batch === 1) return image
  const whole = new image.constructor(batch * image.length)
  for (let i = 0; i < batch; i++) whole.set(image, i * image.length)
  return whole
}

function affine(preprocess, channel) {
  if (!preprocess) return { factor: 1, offset: 0 }
  const [low, high] = preprocess.range
  const pick = (values) => values[values.length === 1 ? 0 : channel]
  const [mean, std] = [pick(preprocess.mean), pick(preprocess.std)]
  return { factor: Math.fround((high - low) / (255 * std)), offset: Math.fround((low - mean) / std) }
}

// Luma of ITU-R BT.601 in 16 bits, as Pillow's "L".
function grey(rgba, at) {
  return (rgba[at] * 19595 + rgba[at + 1] * 38470 + rgba[at + 2] * 7471 + 0x8000) >> 16
}

/** Scores [K] -> probabilities [K]; those of a file that ends in a softmax are left as they are. */
export function probabilities(scores, gives) {
  if (gives === 'softmax') return Array.from(scores)
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity)
  const powers = Array.from(scores, (score) => Math.exp(score - top))
  const total = powers.reduce((sum, power) => sum + power, 0)
  return powers.map((power) => power / total)
}
