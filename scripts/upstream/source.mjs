import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const MARK = '.drytrace-ready'

/**
 * The suite's sources with the packages its tests need, below `directory`.
 * `given` is a checkout, or a git directory without one, to take them from.
 */
export function prepareTree({ suite, directory, given, log }) {
  const tree = path.join(directory, 'tree')
  const mark = path.join(tree, MARK)
  const wanted = JSON.stringify([suite.ref, suite.install])
  if (existsSync(mark) && readFileSync(mark, 'utf8').startsWith(wanted))
    return { tree, version: JSON.parse(readFileSync(mark, 'utf8').split('\n')[1]) }
  rmSync(tree, { recursive: true, force: true })
  mkdirSync(tree, { recursive: true })
  const version = fetchSources({ suite, directory, tree, given, log })
  log('installing what the tests need')
  install(suite, tree)
  for (const [name, target] of Object.entries(suite.links ?? {}))
    symlinkSync(path.join(tree, target), path.join(tree, name))
  for (const args of suite.setup ?? []) execFileSync(process.execPath, args, { cwd: tree, stdio: 'ignore' })
  writeFileSync(mark, `${wanted}\n${JSON.stringify(version)}`)
  return { tree, version }
}

function fetchSources({ suite, directory, tree, given, log }) {
  const paths = suite.paths ?? ['.']
  if (given !== undefined && existsSync(path.join(given, 'package.json'))) {
    for (const one of paths)
      cpSync(path.join(given, one), path.join(tree, one), {
        recursive: true,
        filter: (name) => !/\/(node_modules|\.git)(\/|$)/.test(name),
      })
    return 'as given'
  }
  let repository = given
  if (repository === undefined) {
    repository = path.join(directory, 'repository')
    rmSync(repository, { recursive: true, force: true })
    const url = `https://github.com/${suite.repository}.git`
    log(`cloning ${url} at ${suite.ref}`)
    try {
      execFileSync('git', ['clone', '--quiet', '--bare', '--depth', '1', '--branch', suite.ref, url, repository], {
        stdio: ['ignore', 'inherit', 'inherit'],
        timeout: 300_000,
      })
    } catch {
      throw new Error(`${url} could not be cloned; give a checkout or a git directory with --source`)
    }
  }
  const git = (...args) =>
    execFileSync('git', [`--git-dir=${gitDirectory(repository)}`, ...args], {
      encoding: 'buffer',
      maxBuffer: 1024 ** 3,
    })
  const commit = revision(git, suite.ref)
  const archive = path.join(directory, 'sources.tar')
  writeFileSync(archive, git('archive', '--format=tar', commit, ...paths.filter((one) => one !== '.')))
  execFileSync('tar', ['xf', archive, '-C', tree])
  rmSync(archive)
  return `${suite.ref} (${commit.slice(0, 9)})`
}

function gitDirectory(given) {
  const inside = path.join(given, '.git')
  return existsSync(inside) && statSync(inside).isDirectory() ? inside : given
}

function revision(git, ref) {
  try {
    return git('rev-parse', '--verify', '--quiet', `refs/tags/${ref}^{commit}`).toString().trim()
  } catch {
    throw new Error(`the sources have no tag ${ref}`)
  }
}

/** Upstream's runtime dependencies and those of its tools that the tests use. Nothing is built, no script runs. */
function install({ install: wanted }, tree) {
  const file = path.join(tree, 'package.json')
  const manifest = JSON.parse(readFileSync(file, 'utf8'))
  const tools = wanted.map((one) => {
    const at = one.indexOf('@', 1)
    if (at !== -1) return [one.slice(0, at), one.slice(at + 1)]
    return [one, manifest.devDependencies?.[one] ?? manifest.peerDependencies?.[one] ?? '*']
  })
  const { scripts, workspaces, packageManager, optionalDependencies, ...kept } = manifest
  // A checker of engines would refuse versions that only matter to the tools left out.
  delete kept.engines
  delete kept.devEngines
  writeFileSync(file, JSON.stringify({ ...kept, devDependencies: Object.fromEntries(tools) }, null, 2))
  const npm = [
    'install',
    '--no-audit',
    '--no-fund',
    '--ignore-scripts',
    '--no-package-lock',
    '--legacy-peer-deps',
    '--loglevel=error',
  ]
  for (const lock of ['package-lock.json', 'yarn.lock', 'pnpm-lock.yaml', '.npmrc'])
    rmSync(path.join(tree, lock), { force: true })
  execFileSync('npm', npm, { cwd: tree, stdio: ['ignore', 'ignore', 'inherit'], timeout: 600_000 })
}
