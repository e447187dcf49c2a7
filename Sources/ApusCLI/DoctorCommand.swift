import ArgumentParser

/// Says what this machine offers and what is missing.
struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Say what this machine offers to build and run engines.",
    discussion: """
      Lists the processor and its instruction sets, memory, the C compiler that builds need, the CUDA libraries with \
      version and place, or the names that were tried, and the GPUs that the driver lists.

        apus doctor
        apus doctor --json | jq .compiler
      """)

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let processor = Processor.current
    let compiler = CompilerFinding.find()
    let cuda = CUDAReport.find()
    if json {
      print(
        JSON.object([
          ("processor", processor.json), ("compiler", compiler.json),
          ("libraries", cuda.json.libraries), ("gpus", cuda.json.processors),
        ]))
      return
    }
    print("Processor")
    print(processor.text)
    print("\nC compiler (builds need it; running an engine does not)")
    print(compiler.text)
    print("\nCUDA libraries (found at run time; needed for the CUDA backend only)")
    print(cuda.text)
  }
}
