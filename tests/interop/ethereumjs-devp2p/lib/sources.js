// The chains that these tests give to cairn.
import { join } from 'node:path'
import { recorded, store } from '../../lib/cairn.mjs'
import { freshFolder } from '../../lib/child.mjs'
import { Chain } from './chain.js'
import { readEra1 } from './era1.js'

/** A clique chain of 1,100 blocks, so that an answer's limit of 1,024 shows, made by `cairn-store generate`. */
export async function generatedChain() {
  const folder = freshFolder()
  const file = join(folder, 'chain.rlp')
  const genesisFile = join(folder, 'genesis.json')
  await store('generate', '--blocks', '1100', '--txs', '5', '--seed', '7', '--out', file, '--genesis', genesisFile)
  return { file, genesisFile, chain: Chain.read('generated', file, genesisFile) }
}

/** A clique chain of 1,100 blocks with receipts, as one era1 file from block 0 on. */
export async function generatedEra() {
  const folder = freshFolder()
  const file = join(folder, 'chain.era1')
  const genesisFile = join(folder, 'genesis.json')
  await store('generate', '--blocks', '1100', '--txs', '5', '--seed', '8', '--out', file, '--genesis', genesisFile)
  return { file, genesisFile, chain: readEra1('generated with receipts', file, genesisFile) }
}

/** A chain of a real client, or null where there is no chain data. */
export function recordedChain(name, fileName) {
  const file = recorded('chains', name, fileName)
  if (file === null) return null
  const genesisFile = recorded('chains', name, 'genesis.json')
  return { file, genesisFile, chain: Chain.read(name, file, genesisFile) }
}
