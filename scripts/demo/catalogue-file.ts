import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { extname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { AbstractTask, Report } from '../../src/index.ts';
import type { TaskContext, TaskOptions } from '../../src/index.ts';

export interface FileToCatalogue {
  /** Absolute. */
  readonly path: string;
  readonly bytes: number;
}

/** Lines and words as `wc` counts them. */
export interface CatalogueEntry {
  readonly bytes: number;
  readonly sha256: string;
  readonly lines: number;
  readonly words: number;
  readonly gzipBytes: number;
  /** Milliseconds that it took. */
  readonly tookMs: number;
}

export const LARGE_BYTES: number = 256 * 1_024;

const SOURCE_EXTENSIONS = ['.js', '.mjs', '.cjs', '.jsx', '.ts', '.mts', '.cts', '.tsx', '.c', '.h', '.py'];

/** Reads one file. Which queue it goes to is decided when it is enqueued, from its size and its name. */
export class CatalogueFile extends AbstractTask<FileToCatalogue> {
  static override readonly taskName = 'demo.catalogue-file';
  static override readonly options: TaskOptions = { timeoutMs: 20_000 };

  override getQueueName({ path, bytes }: FileToCatalogue): string {
    if (bytes > LARGE_BYTES) return 'large';
    return SOURCE_EXTENSIONS.includes(extname(path).toLowerCase()) ? 'source' : 'small';
  }

  /** A file that cannot be read is a failure report, which is final; anything thrown would be tried again by the task's policy. */
  override async run({ signal }: TaskContext): Promise<Report<CatalogueEntry>> {
    const { path } = this.parameters;
    try {
      return Report.createSuccess('Catalogued', await readEntry(path, signal));
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      return Report.createFailure(reasonOf(error as NodeJS.ErrnoException, path));
    }
  }
}

async function readEntry(path: string, signal: AbortSignal): Promise<CatalogueEntry> {
  const startedAt = performance.now();
  const hash = createHash('sha256');
  const counter = new TextCounter();
  let bytes = 0;
  let gzipBytes = 0;
  await pipeline(
    createReadStream(path),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        bytes += chunk.length;
        hash.update(chunk);
        counter.add(chunk);
        yield chunk;
      }
    },
    createGzip(),
    async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) gzipBytes += chunk.length;
    },
    { signal },
  );
  const { lines, words } = counter;
  const tookMs = Math.round((performance.now() - startedAt) * 10) / 10;
  return { bytes, sha256: hash.digest('hex'), lines, words, gzipBytes, tookMs };
}

const LINE_FEED = 10;

class TextCounter {
  lines = 0;
  words = 0;
  #isInWord = false;

  add(chunk: Buffer): void {
    for (const byte of chunk) {
      // Tab, line feed, vertical tab, form feed, carriage return, space.
      const isSpace = byte === 32 || (byte >= 9 && byte <= 13);
      if (byte === LINE_FEED) this.lines += 1;
      if (!isSpace && !this.#isInWord) this.words += 1;
      this.#isInWord = !isSpace;
    }
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'No permission to read it',
  EPERM: 'No permission to read it',
  EISDIR: 'It is a folder now',
};

function reasonOf(error: NodeJS.ErrnoException, path: string): string {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') {
    return path.includes('\ufffd')
      ? 'Its name is no valid UTF-8, so it cannot be opened by that name'
      : 'It vanished after it was listed';
  }
  return REASONS[error.code ?? ''] ?? error.message;
}
