// An era1 file, read: the blocks with their receipts in eth/68's form.
import { readFileSync } from 'node:fs'
import snappy from 'snappyjs'
import { Chain, block } from './chain.js'
import * as rlp from '../../lib/rlp.mjs'

// e2store: type (2 bytes), length (4), zero (2), data; little-endian.
const ENTRY_HEADER_BYTES = 8
const Entry = { Header: 3, Body: 4, Receipts: 5 }
// The framing of snappy: type (1 byte), length (3), then a checksum of 4 bytes and the data.
const CHUNK_HEADER_BYTES = 4
const CHECKSUM_BYTES = 4
const Chunk = { Compressed: 0x00, Uncompressed: 0x01, Stream: 0xff }

function unframed(bytes) {
  const parts = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUIntLE(at + 1, 3)
    const data = bytes.subarray(at + CHUNK_HEADER_BYTES + CHECKSUM_BYTES, at + CHUNK_HEADER_BYTES + length)
    if (bytes[at] === Chunk.Compressed) parts.push(Buffer.from(snappy.uncompress(data)))
    else if (bytes[at] === Chunk.Uncompressed) parts.push(data)
    else if (bytes[at] !== Chunk.Stream) throw new Error(`era1: a snappy chunk of type ${bytes[at]}`)
    at += CHUNK_HEADER_BYTES + length
  }
  return Buffer.concat(parts)
}

/** Reads an era1 file that begins at block 0; each block of the chain gets `receipts`, the RLP list that answers for it. */
export function readEra1(name, file, genesisFile) {
  const bytes = readFileSync(file)
  const parts = { [Entry.Header]: [], [Entry.Body]: [], [Entry.Receipts]: [] }
  for (let at = 0; at < bytes.length; ) {
    const start = at + ENTRY_HEADER_BYTES
    const end = start + bytes.readUInt32LE(at + 2)
    parts[bytes.readUInt16LE(at)]?.push(unframed(bytes.subarray(start, end)))
    at = end
  }
  const blocks = parts[Entry.Header].map((header, i) => ({
    ...block(rlp.list([header, ...rlp.items(parts[Entry.Body][i])])),
    receipts: receiptsOnTheWire(parts[Entry.Receipts][i]),
  }))
  return new Chain(name, readFileSync(genesisFile, 'utf8'), blocks)
}

/** Era1 has receipts as eth/68 sends them: typed ones as strings. Checked here, as an answer is compared with these very bytes. */
function receiptsOnTheWire(bytes) {
  for (const receipt of rlp.items(bytes)) {
    const { list } = rlp.itemAt(receipt, 0)
    const fields = rlp.items(list ? receipt : rlp.string(receipt).subarray(1))
    if (fields.length !== 4 || rlp.string(fields[2]).length !== 256) throw new Error('era1: a receipt without its bloom')
  }
  return bytes
}
