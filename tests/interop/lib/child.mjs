// Programs as child processes: their logs, their folders and ports, and that nothing of a test outlives it.
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** In CI nothing is skipped. */
export const inCi = process.env.CI === 'true'

/** What anything that must happen may take. Loopback needs milliseconds; a busy machine in CI more. */
export const WAIT_MS = 15_000
/** What the commands that end by themselves may take. */
const COMMAND_MS = 120_000
/** How often a log or a store is looked at while something is awaited. */
const LOOK_MS = 200
/** Lines of each program's log that are shown where a test failed. */
const LOG_LINES = 60
const LOG_COLUMNS = 300

const alive = new Set()
const started = []
const folders = new Set()
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
  if (!process.exitCode) return
  for (const { name, log } of started) {
    console.error(`# the log of ${name} ends:`)
    for (const line of log.split('\n').slice(-LOG_LINES)) console.error(line.slice(0, LOG_COLUMNS))
  }
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

/** Rejects with `what` when `promise` takes longer than `ms`. */
export function within(promise, what, ms = WAIT_MS) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${ms} ms`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Asks `look` again and again until what it gives is neither undefined nor false, and gives that. */
export async function until(look, what, ms = WAIT_MS) {
  const deadline = Date.now() + ms
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (Date.now() > deadline) throw new Error(`${what}: not after ${ms} ms`)
    await new Promise((done) => setTimeout(done, LOOK_MS))
  }
}

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

/** Runs a program that ends by itself, and gives what it printed. */
export async function runProgram(path, args) {
  try {
    return await promisify(execFile)(path, args, { timeout: COMMAND_MS, maxBuffer: 1 << 26 })
  } catch (error) {
    throw new Error(`${path} ${args.join(' ')}: exit status ${error.code}\n${error.stdout}${error.stderr}`)
  }
}

/** A program that runs until it is told to stop. */
export class Child {
  /** `cwd` is for a program that writes where it stands. */
  constructor(name, path, args, { cwd } = {}) {
    this.name = name
    this.log = ''
    started.push(this)
    this.process = spawn(path, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    alive.add(this.process)
    this.ended = new Promise((done) => {
      this.process.once('exit', (code, signal) => done({ code, signal }))
      this.process.once('error', (error) => done({ code: null, signal: error.message }))
    })
    this.ended.then(() => alive.delete(this.process))
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk) => {
        this.log += chunk
      })
    }
  }

  get running() {
    return this.process.exitCode === null && this.process.signalCode === null
  }

  /** Waits until `pattern` is in the log, from `offset` characters on, and gives the match; fails if the program ends first. */
  async says(pattern, ms = WAIT_MS, offset = 0) {
    return until(
      () => {
        const found = pattern.exec(this.log.slice(offset))
        if (found !== null) return found
        if (!this.running) throw new Error(`${this.name} ended before it said ${pattern}:\n${this.log.slice(-4000)}`)
        return undefined
      },
      `${this.name} says ${pattern}`,
      ms,
    )
  }

  /** Sends `signal` and gives how the program ended; past `ms` it is killed, and that is an error. */
  async stop(signal = 'SIGTERM', ms = WAIT_MS) {
    this.process.kill(signal)
    try {
      return await within(this.ended, `the end of ${this.name} after ${signal}`, ms)
    } finally {
      this.process.kill('SIGKILL')
    }
  }
}
