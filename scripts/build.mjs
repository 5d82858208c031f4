// Compiles into a folder of its own that then takes the place of dist/: no file of an earlier build lives on.
import { spawnSync } from 'node:child_process';
import { chmodSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const fresh = join(root, `dist-${process.pid}`);
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');

const { status } = spawnSync(
  process.execPath,
  [tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', fresh],
  {
    stdio: 'inherit',
  },
);
if (status === 0) {
  const scripts = join(fresh, 'scripts');
  for (const file of readdirSync(scripts)) if (file.endsWith('.js')) chmodSync(join(scripts, file), 0o755);
  rmSync(dist, { recursive: true, force: true });
  renameSync(fresh, dist);
} else {
  rmSync(fresh, { recursive: true, force: true });
  process.exit(status ?? 1);
}
