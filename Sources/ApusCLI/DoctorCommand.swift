import ArgumentParser

/// Says what this machine offers and what is missing.
struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Say what this machine offers to build and run engines.",
    discussion: """
      Lists the processor and its instruction sets, memory, the C compiler that builds need, and the CUDA libraries that \
      were found or not, with the names that were tried.

        apus doctor
        apus doctor --json | jq .compiler
      """)

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let processor = Processor.current
    let compiler = CompilerFinding.find()
    let libraries = SharedLibrary.cuda.map { $0.probe() }
    if json {
      print(
        JSON.object([
          ("processor", processor.json), ("compiler", compiler.json),
          ("libraries", .array(libraries.map(\.json))),
        ]))
      return
    }
    print("Processor")
    print(processor.text)
    print("\nC compiler (builds need it; running an engine does not)")
    print(compiler.text)
    print("\nCUDA libraries (found at run time; needed for the CUDA backend only)")
    for library in libraries { print(library.text) }
    let path = SharedLibrary.searchPath
    print("  searched: LD_LIBRARY_PATH (\(path.isEmpty ? "not set" : path)), then the system's library directories")
  }
}
