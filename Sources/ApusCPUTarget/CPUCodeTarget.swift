package import ApusCompiler
package import ApusCore
package import ApusKernel
package import ApusPlan

/// Code generation for CPUs: kernels become C, C becomes one shared-object image.
package struct CPUCodeTarget: Target {
  package let cpu: CPUTarget
  private(set) var compiler: CCompiler
  package let templates: [any KernelTemplate]

  /// - Throws: ``BuildError`` when the C compiler is missing or the target name is unknown.
  package init(name: String, machineFeatures: [String], jobs: Int) throws(BuildError) {
    cpu = try CPUTarget(name: name, machineFeatures: machineFeatures)
    compiler = try CCompiler(target: cpu, jobs: jobs)
    templates = [
      DepthwiseTemplate(cpu: cpu), ConvTemplate(cpu: cpu), ConvTransposeTemplate(cpu: cpu), MatmulTemplate(cpu: cpu),
      PoolTemplate(cpu: cpu), AttentionTemplate(cpu: cpu), RecurrentTemplate(cpu: cpu),
      TopKTemplate(),
    ]
  }

  /// The same target, which compiles so many functions at a time: for code that is built once and thrown away.
  ///
  /// - Parameter optimising: whether the compiler makes them fast, which takes it five times as long.
  package func compiling(atATime count: Int, optimising: Bool = true) -> CPUCodeTarget {
    var target = self
    target.compiler.unitSize = count
    target.compiler.isOptimising = optimising
    return target
  }

  package var fingerprint: Fingerprint {
    Fingerprint(backend: "cpu", target: cpu.name, features: cpu.features)
  }

  package let hostIsElsewhere = false
  package let launchElements = 256
  package let joinsLargeProducts = true

  package func compilerVersion() throws(BuildError) -> String { try compiler.version() }

  package func loops(_ kernel: Kernel) -> KernelCode { loops(kernel, .usual) }

  package func loops(_ kernel: Kernel, by tactic: String) -> KernelCode {
    loops(kernel, LoopSchedule.all.first { $0.name == tactic }?.schedule ?? .usual)
  }

  /// Names of all ways to write loops.
  package static let loopTactics = LoopSchedule.all.map(\.name)

  /// Those that give other loops than the ones before them, by what they should take.
  package func loopTactics(_ kernel: Kernel) -> [String] {
    if LoopEmitter(kernel).work.estimate < LoopSchedule.leastWork { return [] }
    let costs = CPUCosts(cpu)
    var found: [(name: String, code: EmittedKernel, cost: Double)] = []
    for (name, schedule) in LoopSchedule.all {
      let emitter = LoopEmitter(kernel, schedule)
      let code = emitter.function()
      if found.contains(where: { $0.code.text == code.text && $0.code.blocks == code.blocks }) { continue }
      found.append((name, code, emitter.cost(lanes: cpu.vectorBytes / 4, code.blocks).microseconds(costs)))
    }
    return found.map { TacticCandidate(name: $0.name, microseconds: $0.cost) }.cheapestFirst.map(\.name)
  }

  private func loops(_ kernel: Kernel, _ schedule: LoopSchedule) -> KernelCode {
    let emitter = LoopEmitter(kernel, schedule)
    let emitted = emitter.function()
    return KernelCode(
      source: KernelText.prelude + emitted.text, parameters: emitted.parameters, blocks: emitted.blocks)
  }

  package func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
    [KernelImage(target: cpu.name, bytes: try compiler.image(sources, progress: progress))]
  }
}

/// The C texts that kernels are made of.
enum KernelText {
  /// What every kernel starts with.
  static let prelude =
    text(PackageResources.prelude_h) + text(PackageResources.math_h) + ScalarText.scalar

  static let gemm = text(PackageResources.gemm_h)
  static let conv = text(PackageResources.conv_h)
  static let winograd = text(PackageResources.winograd_h)
  static let winogradLine = text(PackageResources.winograd_line_h)
  static let convTranspose = text(PackageResources.conv_transpose_h)
  static let depthwise = text(PackageResources.depthwise_h)
  static let attention = text(PackageResources.attention_h)
  static let recurrent = text(PackageResources.lstm_h)
  static let pool = text(PackageResources.pool_h)
  static let topK = text(PackageResources.top_k_h)
  /// Makes room for another template in the same kernel.
  static let undef = text(PackageResources.undef_h)

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) + "\n" }
}
