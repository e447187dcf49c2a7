package import ApusCompiler
package import ApusCore
package import ApusKernel
package import ApusPlan

/// Code generation for NVIDIA GPUs: kernels become CUDA C++, each of which NVRTC compiles to machine code or assembly.
package struct CUDACodeTarget: Target {
  package let architecture: CUDAArchitecture
  private let jobs: Int
  private let threads: Int
  package let templates: [any KernelTemplate]

  /// - Parameters:
  ///   - native: the architecture of this machine's GPU, which the name `native` stands for.
  ///   - threads: how many give every part of a GPU something to do.
  ///   - isPlain: whether kernels use nothing that CUDA C++ has no words for, which leaves out those of products.
  /// - Throws: ``BuildError`` when the name is unknown.
  package init(name: String, native: String?, jobs: Int, threads: Int = 1 << 15, isPlain: Bool = false)
    throws(BuildError)
  {
    self.threads = threads
    architecture = try CUDAArchitecture(name: name, native: native)
    let product = MatmulTemplate(architecture: architecture)
    let operations = OperationTemplate(architecture, product: isPlain ? nil : product) {
      Self.loops($0, threads: threads)
    }
    templates =
      isPlain
      ? [operations]
      : [ConvTemplate(architecture: architecture), product, AttentionTemplate(architecture: architecture), operations]
    // A compiler takes a quarter of a gigabyte.
    self.jobs = min(max(jobs, 1), 8)
  }

  package var fingerprint: Fingerprint { Fingerprint(backend: "cuda", target: architecture.name, features: []) }

  package let hostIsElsewhere = true
  package let launchElements = 1 << 20
  package let joinsLargeProducts = false
  package let laneModel: (any LaneModel)? = CUDALaneModel()
  package let rates = MachineRates(bytes: 3_500_000, operations: 20_000_000, launch: 2)

  package func compilerVersion() throws(BuildError) -> String { "NVRTC \(try NVRTC.find().version)" }

  package func loops(_ kernel: Kernel) -> KernelCode { Self.loops(kernel, threads: threads) }

  package func loops(beside kernels: [Kernel]) -> KernelCode? {
    EmittedKernel.joined(kernels.map { CUDALoopEmitter($0, threads: threads).function() })
      .map { Self.code($0, CUDAText.prelude(for: kernels)) }
  }

  private static func loops(_ kernel: Kernel, threads: Int) -> KernelCode {
    code(CUDALoopEmitter(kernel, threads: threads).function(), CUDAText.prelude(for: [kernel]))
  }

  private static func code(_ kernel: EmittedKernel, _ prelude: String) -> KernelCode {
    KernelCode(
      source: prelude + kernel.whole, parameters: kernel.parameters, blocks: kernel.blocks, threads: kernel.threads,
      asksEarly: true)
  }

  package func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
    try compiler().images(of: sources, progress: progress).map { KernelImage(target: architecture.name, bytes: $0) }
  }

  /// Bytes for a thread that the kernels of sources, compiled before, keep in local memory for want of registers.
  package func spilledByteCounts(of sources: [String]) throws(BuildError) -> [Int] {
    try compiler().spilledByteCounts(of: sources)
  }

  private func compiler() throws(BuildError) -> KernelCompiler {
    var options = [
      "--gpu-architecture=\(architecture.name)", "-std=c++17", "-default-device",
      "--diag-suppress=177,550,39,186,68",
    ]
    // Registers are given out where machine code is made.
    if !architecture.isVirtual { options.append("--ptxas-options=-v") }
    return KernelCompiler(
      compiler: try NVRTC.find(), options: options, form: architecture.isVirtual ? .assembly : .machineCode, jobs: jobs)
  }
}

/// The CUDA texts that kernels are made of.
package enum CUDAText {
  /// What every kernel starts with.
  package static let prelude =
    text(PackageResources.prelude_cuh) + ptx + text(PackageResources.math_cuh) + ScalarText.scalar

  /// What comes before the prelude to make functions take their short forms.
  package static let brief = "#define APUS_BRIEF 1\n"

  /// What a kernel starts with; functions take their short forms where all it stores are floats of 16 bits.
  static func prelude(for kernels: [Kernel]) -> String {
    let stored = kernels.flatMap { kernel in kernel.stores.map { kernel.arena.buffers[$0.buffer] } }
    return (!stored.isEmpty && stored.allSatisfy { $0 == .f16 || $0 == .bf16 } ? brief : "") + prelude
  }

  /// The part of the prelude that is instructions of GPUs.
  package static let ptx = text(PackageResources.ptx_cuh)

  static let gemm = text(PackageResources.gemm_cuh)
  static let gemmSIMT = text(PackageResources.gemm_simt_cuh)
  static let gemmMMA = text(PackageResources.gemm_mma_cuh)
  static let barrier = text(PackageResources.barrier_cuh)
  static let wgmma = barrier + text(PackageResources.wgmma_cuh)
  static let gemmWGMMA = text(PackageResources.gemm_wgmma_cuh)
  static let conv = text(PackageResources.conv_cuh)
  static let convSIMT = text(PackageResources.conv_simt_cuh)
  static let convStem = text(PackageResources.conv_stem_cuh)
  static let convWGMMA = text(PackageResources.conv_wgmma_cuh)
  static let convMMA = text(PackageResources.conv_mma_cuh)
  static let attentionCommon = text(PackageResources.attention_common_cuh)
  static let attentionFinish = text(PackageResources.attention_finish_cuh)
  static let attentionSIMT = text(PackageResources.attention_simt_cuh)
  static let attentionMMA = text(PackageResources.attention_mma_cuh)
  static let order = text(PackageResources.order_cuh)
  static let scan = text(PackageResources.scan_cuh)
  static let scatter = text(PackageResources.scatter_cuh)
  static let boxes = text(PackageResources.boxes_cuh)
  static let recurrent = text(PackageResources.recurrent_cuh)
  static let fourier = text(PackageResources.fourier_cuh)
  static let radix = text(PackageResources.radix_cuh)
  static let gemvCommon = text(PackageResources.gemv_common_cuh)
  static let gemv = gemvCommon + text(PackageResources.gemv_cuh)
  static let gemvRing = barrier + gemvCommon + text(PackageResources.gemv_ring_cuh)

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) + "\n" }
}
