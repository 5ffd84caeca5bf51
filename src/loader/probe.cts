// Loaded once at start, to prove that the loader hooks of this process see files.
module.exports = { patched: false }
