import type { Dirent } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

export interface ListedFile {
  /** Relative to the folder. */
  readonly path: string;
  readonly bytes: number;
}

export interface Unread {
  readonly path: string;
  readonly reason: string;
}

export interface Listing {
  readonly files: readonly ListedFile[];
  /** How many files there are. */
  readonly total: number;
  /** The search ended early: there are more. */
  readonly isPartial: boolean;
  /** Links are not followed: what they lead to may lie outside, or be the folder itself. */
  readonly links: number;
  /** Folders that could not be read. */
  readonly unread: readonly Unread[];
}

export const MAX_FILES = 2_000;
const MAX_LISTED = 100_000;

/** At most 2,000 files of a folder and the folders in it, evenly spread over all of them. Rejects when the folder itself cannot be read. */
export async function listFolder(folder: string, leaveOut: string, stop: AbortSignal): Promise<Listing> {
  const walk = new Walk(folder, leaveOut);
  await walk.run(stop);
  const { links, unread } = walk;
  const paths = walk.paths.sort();
  const files = await Promise.all(spread(paths, MAX_FILES).map((path) => withSize(folder, path)));
  return { files, total: paths.length, isPartial: walk.isPartial, links, unread };
}

class Walk {
  readonly paths: string[] = [];
  readonly unread: Unread[] = [];
  links = 0;
  isPartial = false;
  readonly #folder: string;
  readonly #leaveOut: string;

  constructor(folder: string, leaveOut: string) {
    this.#folder = folder;
    this.#leaveOut = leaveOut;
  }

  async run(stop: AbortSignal): Promise<void> {
    const waiting = [''];
    for (let inner = waiting.pop(); inner !== undefined; inner = waiting.pop()) {
      if (stop.aborted || this.paths.length >= MAX_LISTED) {
        this.isPartial = true;
        return;
      }
      for (const entry of await this.#read(inner)) {
        const path = join(inner, entry.name);
        if (entry.isFile()) this.paths.push(path);
        else if (entry.isSymbolicLink()) this.links += 1;
        else if (entry.isDirectory() && join(this.#folder, path) !== this.#leaveOut) waiting.push(path);
      }
    }
  }

  async #read(inner: string): Promise<Dirent[]> {
    try {
      return await readdir(join(this.#folder, inner), { withFileTypes: true });
    } catch (error) {
      if (inner === '') throw error;
      const { code = 'an error' } = error as NodeJS.ErrnoException;
      this.unread.push({ path: `${inner}/`, reason: `The folder could not be read (${code})` });
      return [];
    }
  }
}

function spread<T>(items: readonly T[], most: number): T[] {
  if (items.length <= most) return [...items];
  return Array.from({ length: most }, (_, i) => items[Math.floor((i * items.length) / most)] as T);
}

/** A file that is gone already is told by its task, like any that vanishes later. */
async function withSize(folder: string, path: string): Promise<ListedFile> {
  const stats = await lstat(join(folder, path)).catch(() => undefined);
  return { path, bytes: stats?.size ?? 0 };
}
