import Apus
import ApusCompiler
import ApusCore
import ApusPlan
import ApusRuntime
import ArgumentParser

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A wait between runs.
enum Pause {
  static func milliseconds(_ count: Double) { usleep(useconds_t(1000 * count)) }
}

/// Builds and measures by the flags of TensorRT's trtexec.
struct TrtexecCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trtexec",
    abstract: "Build and measure with the flags of TensorRT's trtexec.",
    discussion: """
      Takes the flags of trtexec 10 and 11, does what Apus has, says of each other flag that it changes nothing or why it \
      cannot be followed, and prints the summary and writes the JSON files in trtexec's forms. Engines are Apus's.

        apus trtexec --onnx=model.onnx --saveEngine=model.apus --minShapes=x:1x3x224x224 --optShapes=x:8x3x224x224 \
      --maxShapes=x:32x3x224x224
        apus trtexec --loadEngine=model.apus --shapes=x:8x3x224x224 --exportTimes=times.json
        apus trtexec --onnx=model.onnx --builderOptimizationLevel=5 --skipInference --saveEngine=model.apus

      --builderOptimizationLevel 0 and 1 leave the choice of kernels to the cost model, 2 and 3 are --tune quick, 4 and 5 \
      --tune full. A GPU is used where there is one, unless --cpuOnly or --backend=cpu says otherwise; --allow-host-ops lets the host compute what it cannot.
      """)

  @Argument(parsing: .captureForPassthrough, help: "Flags of trtexec, as --name or --name=value.")
  var flags: [String] = []

  func run() throws {
    if flags.contains(where: { ["--help", "-h"].contains($0) }) { return print(Self.helpMessage()) }
    let title = "TensorRT.trtexec [Apus v\(Fingerprint.compilerVersion)] # apus trtexec \(flags.joined(separator: " "))"
    print("&&&& RUNNING \(title)")
    do {
      try carryOut(try TrtexecRequest(flags))
      print("&&&& PASSED \(title)")
    } catch {
      print("&&&& FAILED \(title)")
      throw error
    }
  }

  private static func say(_ text: String) { print("[I] \(text)") }

  private func carryOut(_ request: TrtexecRequest) throws {
    for note in request.notes { print("[W] \(note)") }
    let given = request.values["loadEngine"] ?? request.values["saveEngine"]
    let engine = given ?? "\(Self.scratchFolder)/apus-trtexec-\(getpid()).apus"
    defer { if given == nil { unlink(engine) } }
    if let model = request.values["onnx"] { try build(model, to: engine, request) }
    if request.skipsInference { return Self.say("Skipped inference phase since --skipInference is added.") }
    let profile = request.useProfile.map { ProfileSelection.index($0) }
    let session = try Session(
      engine, shapes: [], profile: profile, backend: nil, threads: nil, progress: ProgressBar(isQuiet: true))
    Self.say("Engine deserialized in \(Units.fixed(session.loadTime / .seconds(1), 6)) sec.")
    try TrtexecRun(session: session, request: request, profile: profile).run { Self.say($0) }
  }

  private static var scratchFolder: String { getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp" }

  private func build(_ model: String, to engine: String, _ request: TrtexecRequest) throws {
    var words = [model, "--output", engine, "--backend", try Self.backend(request)]
    if request.has("allow-host-ops") { words.append("--allow-host-ops") }
    words += request.profileWords
    // Without ranges the shapes to run are those to build for.
    if request.profileWords.isEmpty, let shapes = request.values["shapes"] { words.append("--shapes=\(shapes)") }
    words += ["--tune", request.level < 2 ? "off" : request.level < 4 ? "quick" : "full"]
    if let count = request.values["maxAuxStreams"] { words += ["--aux-streams", count] }
    if let path = request.values["timingCacheFile"] { words += ["--timing-cache", path] }
    let start = ContinuousClock.now
    try BuildCommand.parse(words).run()
    Self.say("Engine built in \(Units.fixed((ContinuousClock.now - start) / .seconds(1), 3)) sec.")
  }

  /// What to build for: a GPU where there is one.
  private static func backend(_ request: TrtexecRequest) throws -> String {
    if let name = request.values["backend"] { return name }
    if request.has("cpuOnly") { return Backend.cpu.name }
    do {
      _ = try Backend.cuda.makeDevice(nil)
      return Backend.cuda.name
    } catch {
      print("[W] The CPU is used, since there is no GPU: \(error.description)")
      return Backend.cpu.name
    }
  }
}
