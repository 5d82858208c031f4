import { link, mkdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { LOCK_FILE, STATE_FOLDER } from './state.ts';

/** Another demo works in this folder. */
export class LockedError extends Error {}

/**
 * One demo at a time works in a folder; a lock that a dead one has left is taken over. Resolves with what gives it back.
 * @throws LockedError while its owner lives.
 */
export async function lockState(): Promise<() => Promise<void>> {
  await mkdir(STATE_FOLDER, { recursive: true });
  const own = `${LOCK_FILE}.${process.pid}`;
  await writeFile(own, String(process.pid));
  try {
    // A link, since it appears with its content and only where there is none.
    while (!(await unless('EEXIST', link(own, LOCK_FILE)))) await removeDead();
  } finally {
    await rm(own, { force: true });
  }
  return unlock;
}

async function unlock(): Promise<void> {
  await rm(LOCK_FILE, { force: true });
  await rmdir(STATE_FOLDER).catch(() => undefined);
}

async function removeDead(): Promise<void> {
  refuseLiving(await ownerOf(LOCK_FILE));
  const taken = `${LOCK_FILE}.${process.pid}.dead`;
  if (!(await unless('ENOENT', rename(LOCK_FILE, taken)))) return;
  const owner = await ownerOf(taken);
  // Somebody else may have taken it over between the look and the rename: it is given back.
  if (isAlive(owner)) await unless('EEXIST', link(taken, LOCK_FILE));
  await rm(taken, { force: true });
  refuseLiving(owner);
}

function refuseLiving(owner: number): void {
  if (!isAlive(owner)) return;
  throw new LockedError(
    `Another demo (process ${owner}) is at work in this folder; wait for its end, or start this one in another folder.\n` +
      `If that process is no demo, remove ${LOCK_FILE}.`,
  );
}

/** NaN when there is none any more, or none that can be read. */
async function ownerOf(file: string): Promise<number> {
  return Number.parseInt(await readFile(file, 'utf8').catch(() => ''), 10);
}

function isAlive(pid: number): boolean {
  // An own number is that of an earlier process, as in a container that was started again.
  if (!(pid > 0) || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** False when it failed with that code. */
async function unless(code: string, done: Promise<void>): Promise<boolean> {
  try {
    await done;
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === code) return false;
    throw error;
  }
}
