// The cairn program: its commands, a running node, and what its store holds.
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Child, freePort, freshFolder, inCi, runProgram, until } from './child.mjs'

/** From the start of the program to its listening: opening a store takes milliseconds. */
const START_MS = 30_000
/** From SIGTERM to the end: the program promises well under a second; the rest is the machine's. */
const STOP_MS = 5_000
/** A thousand blocks over loopback, on a busy machine, from peers of which some lie. */
const CATCH_UP_MS = 60_000

function program(variable, what) {
  const path = process.env[variable]
  if (!path) throw new Error(`${variable} must name the ${what} binary (see tests/interop/README.md)`)
  if (!existsSync(path)) throw new Error(`${variable}: ${path} does not exist`)
  return resolve(path)
}

/** Runs a command of `cairn` that ends by itself. */
export const run = (...args) => runProgram(program('CAIRN_BIN', 'cairn'), args)

/** Runs a command of `cairn-store`. */
export const store = (...args) => runProgram(program('CAIRN_STORE_BIN', 'cairn-store'), args)

/** A data folder with the whole chain, as `cairn init` and `cairn import` make it; without `file`, with its genesis only. */
export async function dataFolder({ file, genesisFile }) {
  const datadir = join(freshFolder(), 'data')
  await run('init', '--datadir', datadir, genesisFile)
  if (file !== undefined) await run('import', '--datadir', datadir, file)
  return datadir
}

/**
 * A file of the folder of chain data (CAIRN_DATA), or null where there is none: in CI that is a failure.
 */
export function recorded(...path) {
  const data = process.env.CAIRN_DATA
  if (data) return join(data, ...path)
  if (inCi) throw new Error('CI runs these tests with CAIRN_DATA, and it is not set')
  return null
}

/** `{ number, hash }` of the head in a data folder, also while a node runs there. */
export async function headOf(datadir) {
  const { stdout } = await store('info', '--json', '--datadir', datadir)
  return JSON.parse(stdout).head
}

/** A running node. */
export class Cairn extends Child {
  static async start(datadir, { bootnodes = [], args = [], port } = {}) {
    port ??= await freePort()
    const all = ['--datadir', datadir, '--port', String(port), '--verbosity', '4', ...args]
    if (bootnodes.length > 0) all.push('--bootnodes', bootnodes.join(','))
    const cairn = new Cairn(`cairn on port ${port}`, program('CAIRN_BIN', 'cairn'), all)
    cairn.port = port
    cairn.datadir = datadir
    // The log also names the nodes it dials: ours is the one with our port.
    const [, id] = await cairn.says(new RegExp(`enode://([0-9a-f]{128})@[^\\s"?,]*:${port}\\b`), START_MS)
    cairn.enode = `enode://${id}@127.0.0.1:${port}`
    return cairn
  }

  head() {
    return headOf(this.datadir)
  }

  /** Waits until the block of this hash (0x and hex digits) is the head. */
  async reaches(hash, ms = CATCH_UP_MS) {
    return until(async () => (await this.head()).hash === hash, `${this.name} has ${hash} as head`, ms)
  }

  /** SIGTERM, and the exit status. */
  stop() {
    return super.stop('SIGTERM', STOP_MS)
  }
}
