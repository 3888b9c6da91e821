// A chain as its file holds it, and what a peer that has it must answer.
import { readFileSync } from 'node:fs'
import { createCommonFromGethGenesis } from '@ethereumjs/common'
import { keccak256 } from 'ethereum-cryptography/keccak.js'
import * as rlp from '../../lib/rlp.mjs'

/** Headers, bodies and receipts served for one request at most, by the specification of eth. */
export const MAX_ITEMS = 1024
/** An answer may stop once it holds this many bytes (the soft limit every client uses). */
export const SOFT_LIMIT_BYTES = 2 * 1024 * 1024

const hex = (bytes) => Buffer.from(bytes).toString('hex')

export class Chain {
  /**
   * `blocks` in rising order without gaps, from block 0 or 1. The header of block 0 is known by its hash
   * alone where the file begins at 1, as most chain files do.
   */
  constructor(name, genesisText, blocks) {
    this.name = name
    this.blocks = blocks
    this.first = blocks[0].number
    this.head = blocks.at(-1)
    this.genesisHash = this.first === 0n ? blocks[0].hash : blocks[0].parentHash
    if (this.first > 1n) throw new Error(`${name}: begins at block ${this.first}`)
    blocks.forEach((block, i) => {
      if (block.number !== this.first + BigInt(i)) throw new Error(`${name}: block ${block.number} is out of order`)
    })
    this.byHash = new Map(blocks.map((block) => [hex(block.hash), block]))
    const genesis = JSON.parse(genesisText)
    const inFile = blocks.reduce((sum, block) => sum + block.difficulty, 0n)
    this.td = this.first === 0n ? inFile : inFile + BigInt(genesis.difficulty ?? 0)
    this.networkId = networkId(genesisText)
    this.common = commonAt(genesis, this)
  }

  /** Reads a file of blocks laid end to end, as `geth export` writes it, with its genesis.json. */
  static read(name, file, genesisFile) {
    const bytes = readFileSync(file)
    return new Chain(name, readFileSync(genesisFile, 'utf8'), rlp.split(bytes).map(block))
  }

  /** The hash of the head as people write it. */
  get headHash() {
    return `0x${hex(this.head.hash)}`
  }

  block(number) {
    return this.blocks[Number(number - this.first)]
  }

  find(hash) {
    return this.byHash.get(hex(hash))
  }

  /** The number that a request's `start` (a number or a hash) names, if this chain has it. */
  numberOf(start) {
    if (typeof start === 'bigint') return start <= this.head.number ? start : undefined
    if (hex(start) === hex(this.genesisHash)) return 0n
    return this.find(start)?.number
  }

  /**
   * The numbers of the headers that answer a GetBlockHeaders. A peer stops at the end of the chain, at
   * block 0, and after 1,024.
   */
  headerNumbers({ start, amount, skip, reverse }) {
    const numbers = []
    let number = this.numberOf(start)
    const count = amount < BigInt(MAX_ITEMS) ? Number(amount) : MAX_ITEMS
    while (number !== undefined && numbers.length < count) {
      numbers.push(number)
      const next = reverse ? number - skip - 1n : number + skip + 1n
      number = next >= 0n && next <= this.head.number ? next : undefined
    }
    return numbers
  }
}

/** One `[header, transactions, ommers(, withdrawals)]` as slices of the file. */
export function block(bytes) {
  const [header, ...rest] = rlp.items(bytes)
  const fields = rlp.items(header)
  return {
    bytes,
    header,
    body: rlp.list(rest), // what BlockBodies carries: all but the header
    hash: Buffer.from(keccak256(header)),
    parentHash: Buffer.from(rlp.string(fields[0])),
    difficulty: rlp.number(fields[7]),
    number: rlp.number(fields[8]),
    time: rlp.number(fields[11]),
  }
}

/** The low 64 bits of the chain id, taken from the text: JSON's numbers would lose digits. */
function networkId(genesisText) {
  const digits = /"chainId"\s*:\s*"?(0x[0-9a-fA-F]+|[0-9]+)/.exec(genesisText)
  if (digits === null) throw new Error('genesis.json: no chainId')
  return BigInt.asUintN(64, BigInt(digits[1]))
}

/**
 * The library's view of the chain. It takes the fork id of its Status from the fork it is set to, not from
 * its head, and uses the chain id as network id: so it is set to the fork of the head, and is told the network id.
 */
function commonAt(genesis, chain) {
  const config = { ...genesis.config, chainId: 1 }
  const common = createCommonFromGethGenesis({ nonce: '0x0', ...genesis, config }, { chain: chain.name })
  common._chainParams.chainId = `0x${chain.networkId.toString(16)}`
  common.setForkHashes(chain.genesisHash)
  common.setHardfork(common.getHardforkBy({ blockNumber: chain.head.number, timestamp: chain.head.time }))
  return common
}
