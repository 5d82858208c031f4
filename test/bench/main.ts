import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { workerProcess } from './process.ts';
import { benchStore } from './stores.ts';
import type { StoreName } from './stores.ts';
import { drain, enqueue, latency } from './workloads.ts';
import type { Figures } from './workloads.ts';

/**
 * Enqueue, drain and latency on every store, in interleaved rounds so that a noisy machine disturbs all alike. Compare
 * figures of one run with each other, never with those of another day. Prints a table, then one line of JSON.
 */

interface Result {
  readonly store: StoreName;
  readonly workload: string;
  readonly unit: string;
  readonly median: number;
  readonly least: number;
  readonly most: number;
  readonly statementsPerTask?: number;
  readonly commitsPerTask?: number;
}

const STORES: readonly StoreName[] = ['memory', 'sqlite'];

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      tasks: { type: 'string', default: '5000' },
      rounds: { type: 'string', default: '3' },
      concurrency: { type: 'string', default: '10' },
      json: { type: 'boolean', default: false },
    },
  });
  const [tasks, rounds, concurrency] = [values.tasks, values.rounds, values.concurrency].map(Number);
  if (!(tasks && rounds && concurrency))
    throw new Error('--tasks, --rounds and --concurrency are positive numbers');
  const folder = mkdtempSync(join(tmpdir(), 'signalbox-bench-'));
  try {
    const runs: Figures[] = [];
    for (let round = 0; round < rounds; round += 1) {
      runs.push(...(await workerProcess(join(folder, `process-${round}`))));
      for (const store of STORES)
        runs.push(...(await oneRound(store, join(folder, `${round}.sqlite`), tasks, concurrency)));
    }
    report(summarize(runs), { tasks, rounds, concurrency }, values.json);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function oneRound(
  name: StoreName,
  file: string,
  tasks: number,
  concurrency: number,
): Promise<Figures[]> {
  const store = await benchStore(name, file);
  try {
    return [
      ...(await enqueue(store, tasks)),
      await drain(store, tasks, concurrency),
      await latency(store, Math.min(200, tasks)),
    ];
  } finally {
    await store.close();
  }
}

function summarize(runs: readonly Figures[]): Result[] {
  const groups = new Map<string, Figures[]>();
  for (const run of runs) {
    const key = `${run.store}/${run.workload}`;
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()].map((group) => {
    const values = group.map((run) => run.value).sort((a, b) => a - b);
    const [first] = group as [Figures];
    return {
      store: first.store,
      workload: first.workload,
      unit: first.unit,
      median: values[Math.floor(values.length / 2)] as number,
      least: values[0] as number,
      most: values.at(-1) as number,
      ...(first.statementsPerTask === undefined ? {} : { statementsPerTask: first.statementsPerTask }),
      ...(first.commitsPerTask === undefined ? {} : { commitsPerTask: first.commitsPerTask }),
    };
  });
}

function report(results: readonly Result[], options: object, jsonOnly: boolean): void {
  const machine = { node: process.version, cores: cpus().length, cpu: cpus()[0]?.model };
  if (!jsonOnly) {
    const table = new Table({
      head: ['store', 'workload', 'median', 'least … most', 'unit', 'statements/task', 'commits/task'],
    });
    for (const { store, workload, unit, median, least, most, statementsPerTask, commitsPerTask } of results) {
      table.push([
        store,
        workload,
        show(median),
        `${show(least)} … ${show(most)}`,
        unit,
        show(statementsPerTask),
        show(commitsPerTask),
      ]);
    }
    console.log(table.toString());
  }
  console.log(JSON.stringify({ machine, options, results }));
}

function show(value: number | undefined): string {
  if (value === undefined) return '';
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(2);
}

await main();
