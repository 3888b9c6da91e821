// A clique chain with transactions, executed block by block by this client's own code: every state root, receipts root
// and gas figure in it is what the client must find again.
import { writeFileSync } from 'node:fs'
import { createSealedCliqueBlock, genTransactionsTrieRoot } from '@ethereumjs/block'
import { CliqueConsensus, createBlockchain } from '@ethereumjs/blockchain'
import { getCryptoFunctions } from '@ethereumjs/client/dist/esm/bin/utils.js'
import { createCommonFromGethGenesis, parseGethGenesisState } from '@ethereumjs/common'
import { createTx } from '@ethereumjs/tx'
import { bytesToHex, concatBytes, createAddressFromPrivateKey } from '@ethereumjs/util'
import { createVM, runBlock } from '@ethereumjs/vm'
import { keccak256 } from 'ethereum-cryptography/keccak.js'

const CHAIN_ID = 4477
/** Berlin and London begin inside the chain: fork ids, transaction types and the base fee change on the way. */
const FORKS = { berlinBlock: 40, londonBlock: 80 }
const FEE = 3_000_000_000n

const key = (name) => keccak256(new TextEncoder().encode(`cairn interop: ${name}`))
const addressOf = (key) => createAddressFromPrivateKey(key).toString()

/** The signer of every chain here: whoever is given this key may go on sealing. */
export const signer = key('signer')
const senders = [0, 1, 2, 3].map((i) => key(`sender ${i}`))
const recipients = [0, 1, 2].map((i) => addressOf(key(`recipient ${i}`)))

export const hex = (bytes) => bytesToHex(bytes).slice(2)

/** A genesis that geth, this client and cairn read alike. Its network id must be its chain id, as this client has no other. */
export function genesis({ time, period = 1, forks = { berlinBlock: 0, londonBlock: 0 } }) {
  const early = ['homestead', 'eip150', 'eip155', 'eip158', 'byzantium', 'constantinople', 'petersburg', 'istanbul']
  return {
    config: {
      chainId: CHAIN_ID,
      ...Object.fromEntries(early.map((name) => [`${name}Block`, 0])),
      ...forks,
      clique: { period, epoch: 30000 },
    },
    nonce: '0x0',
    timestamp: `0x${time.toString(16)}`,
    extraData: `0x${'00'.repeat(32)}${addressOf(signer).slice(2)}${'00'.repeat(65)}`,
    gasLimit: '0x1c9c380',
    difficulty: '0x1',
    mixHash: `0x${'00'.repeat(32)}`,
    coinbase: `0x${'00'.repeat(20)}`,
    alloc: Object.fromEntries(senders.map((sender) => [addressOf(sender).slice(2), { balance: '0x56bc75e2d63100000' }])),
  }
}

/**
 * Seals `blocks` blocks of up to six transactions each into `file`. They move value and carry data and access lists, but
 * call no contract: on a clique chain this client's virtual machine refuses to run code ("Must include cliqueSigner").
 * Gives what the state at the head must hold: `balances` by address.
 */
export async function executedChain({ blocks, file, genesisFile }) {
  // Every block lies in the past, one second after its parent.
  const time = Math.floor(Date.now() / 1000) - blocks - 60
  const json = genesis({ time, forks: FORKS })
  writeFileSync(genesisFile, JSON.stringify(json))
  // Its curve and hash functions in WebAssembly, as the client itself uses them.
  const customCrypto = await getCryptoFunctions(false)
  const common = createCommonFromGethGenesis(json, { chain: 'interop', customCrypto })
  common.setHardforkBy({ blockNumber: 0n })
  const genesisState = parseGethGenesisState(json)
  const blockchain = await createBlockchain({ common, genesisState, consensusDict: { clique: new CliqueConsensus() } })
  const vm = await createVM({ common, blockchain })
  await vm.stateManager.generateCanonicalGenesis(genesisState)

  const nonces = senders.map(() => 0n)
  const balances = new Map(recipients.map((address) => [address, 0n]))
  const encoded = []
  let transactions = 0
  let parent = blockchain.genesisBlock
  for (let number = 1; number <= blocks; number++) {
    common.setHardforkBy({ blockNumber: BigInt(number) })
    const signed = Array.from({ length: number % 7 }, (_, i) => {
      const from = (number + i) % senders.length
      return createTx({ ...transaction(number, i), nonce: nonces[from]++ }, { common }).sign(senders[from])
    })
    const header = {
      parentHash: parent.hash(),
      number,
      timestamp: time + number,
      difficulty: 2,
      gasLimit: number === FORKS.londonBlock ? parent.header.gasLimit * 2n : parent.header.gasLimit,
    }
    if (number === FORKS.londonBlock) header.baseFeePerGas = common.param('initialBaseFee')
    else if (number > FORKS.londonBlock) header.baseFeePerGas = parent.header.calcNextBaseFee()
    // Fees go to whom the seal names: so what is executed is sealed already, and sealed again with what came out. The
    // library's own builder executes unsealed blocks, which is why the client never seals one with transactions.
    const sealed = (more) => createSealedCliqueBlock({ header: { ...header, ...more }, transactions: signed }, signer, { common })
    const done = await runBlock(vm, { block: sealed({}), generate: true, skipBlockValidation: true })
    const block = sealed({
      stateRoot: done.stateRoot,
      receiptTrie: done.receiptsRoot,
      logsBloom: done.logsBloom,
      gasUsed: done.gasUsed,
      transactionsTrie: await genTransactionsTrieRoot(signed),
    })
    await blockchain.putBlock(block) // checks header and seal
    encoded.push(block.serialize())
    for (const { to, value } of signed) balances.set(to.toString(), balances.get(to.toString()) + value)
    transactions += signed.length
    parent = block
  }
  writeFileSync(file, concatBytes(...encoded))
  return { file, genesisFile, blocks, transactions, head: bytesToHex(parent.hash()), balances }
}

function transaction(number, i) {
  const to = recipients[(number + i) % recipients.length]
  const data = { chainId: CHAIN_ID, to, value: BigInt(1000 * number + i), gasLimit: 60_000n, data: `0x${'5a'.repeat((number * i) % 200)}` }
  const accessList = [{ address: to, storageKeys: [`0x${number.toString(16).padStart(64, '0')}`] }]
  if (i % 2 === 1 && number >= FORKS.londonBlock) return { ...data, type: 2, accessList, maxFeePerGas: FEE, maxPriorityFeePerGas: FEE / 3n }
  if (i % 3 === 2 && number >= FORKS.berlinBlock) return { ...data, type: 1, accessList, gasPrice: FEE }
  return { ...data, type: 0, gasPrice: FEE }
}
