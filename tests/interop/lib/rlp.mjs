// RLP by slices: where an item lies, not what it means. The tests compare the very bytes of the chain
// file with the very bytes of an answer, so nothing here decodes and encodes again.

/**
 * Where the item at `offset` lies: `start` and `end` of its payload, and whether it is a list.
 * Throws on lengths that are not written the shortest way and on items that run past `limit`.
 */
export function itemAt(bytes, offset, limit = bytes.length) {
  if (offset >= limit) throw new Error(`RLP: nothing at byte ${offset}`)
  const first = bytes[offset]
  if (first < 0x80) return { list: false, begin: offset, start: offset, end: offset + 1 }
  const list = first >= 0xc0
  const base = list ? 0xc0 : 0x80
  let start = offset + 1
  let length = first - base
  if (length > 55) {
    const width = length - 55
    length = 0
    for (let i = 0; i < width; i++) length = length * 256 + bytes[start + i]
    if (bytes[start] === 0 || !(length > 55)) throw new Error(`RLP: length not minimal at byte ${offset}`)
    start += width
  }
  const end = start + length
  if (!(end <= limit)) throw new Error(`RLP: item at byte ${offset} ends at ${end}, past ${limit}`)
  return { list, begin: offset, start, end }
}

/** The items laid end to end in `bytes`, each as the slice that holds it, prefix included. */
export function split(bytes) {
  const items = []
  for (let offset = 0; offset < bytes.length; ) {
    const item = itemAt(bytes, offset)
    items.push(bytes.subarray(offset, item.end))
    offset = item.end
  }
  return items
}

/** The items of the one list that `bytes` is. */
export function items(bytes) {
  const item = itemAt(bytes, 0)
  if (!item.list) throw new Error('RLP: a list was expected')
  if (item.end !== bytes.length) throw new Error(`RLP: ${bytes.length - item.end} bytes after the list`)
  return split(bytes.subarray(item.start, item.end))
}

/** The payload of the one string that `bytes` is. */
export function string(bytes) {
  const item = itemAt(bytes, 0)
  if (item.list) throw new Error('RLP: a string was expected')
  if (item.end !== bytes.length) throw new Error(`RLP: ${bytes.length - item.end} bytes after the string`)
  return bytes.subarray(item.start, item.end)
}

/** The number that the string `bytes` holds. */
export function number(bytes) {
  const hex = Buffer.from(string(bytes)).toString('hex')
  return hex === '' ? 0n : BigInt(`0x${hex}`)
}

/** A list made of items that are encoded already. */
export function list(encoded) {
  const payload = Buffer.concat(encoded)
  if (payload.length <= 55) return Buffer.concat([Buffer.from([0xc0 + payload.length]), payload])
  let hex = payload.length.toString(16)
  if (hex.length % 2 === 1) hex = `0${hex}`
  const length = Buffer.from(hex, 'hex')
  return Buffer.concat([Buffer.from([0xf7 + length.length]), length, payload])
}
