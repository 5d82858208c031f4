// Compiles to dist/. Removes what an earlier build left, so that no deleted file lives on in the package.
import { spawnSync } from 'node:child_process';
import { chmodSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
rmSync(join(root, 'dist'), { recursive: true, force: true });
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
const { status } = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], {
  stdio: 'inherit',
});
if (status !== 0) process.exit(status ?? 1);
for (const file of readdirSync(join(root, 'dist', 'scripts'))) {
  if (file.endsWith('.js')) chmodSync(join(root, 'dist', 'scripts', file), 0o755);
}
