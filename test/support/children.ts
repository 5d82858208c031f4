import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const COMPILED = resolve(import.meta.dirname, '..', '..', 'dist', 'test', 'support');

export interface ChildEnd {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A compiled script of this folder in a process of its own. */
export interface Child {
  readonly pid: number;
  readonly ended: Promise<ChildEnd>;
  /** The whole lines that it has written to standard output so far. */
  readonly lines: readonly string[];
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the first line that begins so; rejects when the process ends before it has come. */
  said(beginning: string): Promise<string>;
}

/** Gives the script one argument: `order` as JSON. */
export function startChild(script: string, order: object): Child {
  const file = join(COMPILED, `${script}.js`);
  if (!existsSync(file)) throw new Error(`${file} is not compiled: run \`npm run build\` first.`);
  const process_ = spawn(process.execPath, [file, JSON.stringify(order)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  const listeners = new Set<() => void>();
  let stdout = '';
  let stderr = '';
  process_.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    lines.splice(0, Infinity, ...stdout.split('\n').slice(0, -1));
    for (const listener of listeners) listener();
  });
  process_.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<ChildEnd>((resolve, reject) => {
    process_.on('error', reject);
    process_.on('close', (exitCode, signal) => resolve({ exitCode, signal, stdout, stderr }));
  });
  return {
    pid: process_.pid ?? 0,
    ended,
    lines,
    kill: (signal) => void process_.kill(signal),
    said: (beginning) =>
      new Promise((resolve, reject) => {
        const listener = (): void => {
          const line = lines.find((one) => one.startsWith(beginning));
          if (line === undefined) return;
          listeners.delete(listener);
          resolve(line);
        };
        listeners.add(listener);
        ended.then(
          ({ stdout, stderr }) =>
            reject(new Error(`It ended without saying "${beginning}":\n${stdout}\n${stderr}`)),
          reject,
        );
        listener();
      }),
  };
}
