// ApusCompiler
