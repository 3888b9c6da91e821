// The cairn program as a child process: its commands, its log, and its end.
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { Chain } from './chain.js'
import { dial, within } from './peer.js'
import * as rlp from './rlp.js'

const inCi = process.env.CI === 'true'

function program(variable, what) {
  const path = process.env[variable]
  if (!path) throw new Error(`${variable} must name the ${what} binary (see tests/interop/README.md)`)
  if (!existsSync(path)) throw new Error(`${variable}: ${path} does not exist`)
  return resolve(path)
}

/** What the commands that end by themselves may take. */
const COMMAND_MS = 120_000
/** From the start of the program to its listening: opening a store takes milliseconds. */
const START_MS = 30_000
/** From SIGTERM to the end: the program promises well under a second; the rest is the machine's. */
const STOP_MS = 5_000

/** A thousand blocks over loopback, on a busy machine, from peers of which some lie. */
const CATCH_UP_MS = 60_000
/** Lines of each node's log that are shown where a test failed. */
const LOG_LINES = 60
const LOG_COLUMNS = 300

const alive = new Set()
const started = []
const folders = new Set()
// Nothing of a test outlives it, even where it fails or is stopped.
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
  if (!process.exitCode) return
  for (const { port, log } of started) {
    console.error(`# the log of cairn on port ${port} ends:`)
    for (const line of log.split('\n').slice(-LOG_LINES)) console.error(line.slice(0, LOG_COLUMNS))
  }
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

/** A folder that is removed at the end. */
export function freshFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-interop-'))
  folders.add(folder)
  return folder
}

/** A TCP port of the loopback interface that was free a moment ago. */
export async function freePort() {
  const server = createServer()
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address()
  await new Promise((done) => server.close(done))
  return port
}

/** Runs a command of `cairn` that ends by itself. */
export async function run(...args) {
  return runProgram(program('CAIRN_BIN', 'cairn'), args)
}

async function runProgram(path, args) {
  try {
    return await promisify(execFile)(path, args, { timeout: COMMAND_MS, maxBuffer: 1 << 26 })
  } catch (error) {
    throw new Error(`${path} ${args.join(' ')}: exit status ${error.code}\n${error.stdout}${error.stderr}`)
  }
}

/** A data folder with the whole chain, as `cairn init` and `cairn import` make it; without `file`, with its genesis only. */
export async function dataFolder({ file, genesisFile }) {
  const datadir = join(freshFolder(), 'data')
  await run('init', '--datadir', datadir, genesisFile)
  if (file !== undefined) await run('import', '--datadir', datadir, file)
  return datadir
}

/** A running node. */
export class Cairn {
  static async start(datadir, { bootnodes = [], args = [] } = {}) {
    const cairn = new Cairn()
    cairn.port = await freePort()
    const all = ['--datadir', datadir, '--port', String(cairn.port), '--verbosity', '4', ...args]
    if (bootnodes.length > 0) all.push('--bootnodes', bootnodes.join(','))
    cairn.log = ''
    started.push(cairn)
    cairn.child = spawn(program('CAIRN_BIN', 'cairn'), all, { stdio: ['ignore', 'pipe', 'pipe'] })
    alive.add(cairn.child)
    cairn.ended = new Promise((done) => cairn.child.once('exit', (code, signal) => done({ code, signal })))
    cairn.ended.then(() => alive.delete(cairn.child))
    const listening = new Promise((done) => {
      const read = (chunk) => {
        cairn.log += chunk
        const found = /enode:\/\/[0-9a-f]{128}@[^\s"?,]*/g
        // The log also names the nodes it dials: ours is the one with our port.
        for (const [enode] of cairn.log.matchAll(found)) if (enode.endsWith(`:${cairn.port}`)) done(enode)
      }
      for (const stream of [cairn.child.stdout, cairn.child.stderr]) stream.setEncoding('utf8').on('data', read)
    })
    const died = cairn.ended.then(({ code, signal }) => {
      throw new Error(`cairn ended at its start (${code ?? signal}):\n${cairn.log}`)
    })
    died.catch(() => {})
    try {
      const enode = await within(Promise.race([listening, died]), 'the enode line in the log', START_MS)
      cairn.enode = enode.replace(/@.*$/, `@127.0.0.1:${cairn.port}`)
    } catch (error) {
      cairn.child.kill('SIGKILL')
      throw new Error(`${error.message}\n${cairn.log}`)
    }
    return cairn
  }

  get running() {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  /** Waits until the node says in its Status that its head is the chain's. */
  async reaches(chain) {
    const deadline = Date.now() + CATCH_UP_MS
    for (;;) {
      // No Status of ours: this only looks, and a node on its way may name a fork that the library refuses.
      const session = await dial(chain, this.enode, { status: null })
      try {
        const status = await within(session.status, 'Status')
        if (Buffer.compare(rlp.string(status[3]), chain.head.hash) === 0) return
      } finally {
        session.node.close()
      }
      if (Date.now() > deadline) throw new Error(`not at the head after ${CATCH_UP_MS} ms`)
      await new Promise((done) => setTimeout(done, 500))
    }
  }

  /** SIGTERM, and the exit status. */
  async stop() {
    this.child.kill('SIGTERM')
    try {
      return await within(this.ended, 'the end after SIGTERM', STOP_MS)
    } finally {
      this.child.kill('SIGKILL')
    }
  }
}

/** A clique chain of 1,100 blocks, so that an answer's limit of 1,024 shows, made by `cairn-store generate`. */
export async function generatedChain() {
  const folder = freshFolder()
  const file = join(folder, 'chain.rlp')
  const genesisFile = join(folder, 'genesis.json')
  const args = ['generate', '--blocks', '1100', '--txs', '5', '--seed', '7', '--out', file, '--genesis', genesisFile]
  await runProgram(program('CAIRN_STORE_BIN', 'cairn-store'), args)
  return { file, genesisFile, chain: Chain.read('generated', file, genesisFile) }
}

/** A chain of a real client from the folder of chain data, or null where there is none: in CI that is a failure. */
export function recordedChain(name, fileName) {
  const data = process.env.CAIRN_DATA
  if (!data) {
    if (inCi) throw new Error('CI runs these tests with CAIRN_DATA, and it is not set')
    return null
  }
  const file = join(data, 'chains', name, fileName)
  const genesisFile = join(data, 'chains', name, 'genesis.json')
  return { file, genesisFile, chain: Chain.read(name, file, genesisFile) }
}
