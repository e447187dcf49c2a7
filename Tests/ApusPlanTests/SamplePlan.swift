import ApusCore
import ApusPlan

/// A small plan that uses every kind of slot, step and size.
enum SamplePlan {
  static func make() -> Plan {
    let n = Dim(Symbol("n", Interval(1, 64)))
    let found = Dim(Symbol("found", Interval(0, 1000)))
    let count = Dim(Symbol("count", Interval(0, 100)))
    var plan = Plan(
      name: "sample",
      fingerprint: Fingerprint(backend: "cpu", target: "x86-64-v3", features: ["avx512f", "avx512vl"]))
    plan.metadata = ["producer": "test", "labels": "cat\ndog"]
    plan.shapeSymbols = [Symbol("n", Interval(1, 64))]
    plan.runSymbols = [Symbol("found", Interval(0, 1000)), Symbol("count", Interval(0, 100))]
    let row = TensorType(.f32, [n, 4])
    let flag = TensorType(.bool, [])
    plan.slots = [
      Slot(name: "x", type: .tensor(row), storage: .input(0)),
      Slot(name: "y", type: .tensor(TensorType(.f32, [found, 4])), storage: .output(0)),
      Slot(name: "w", type: .tensor(TensorType(.f32, sizes: [4, 4])), storage: .constant(offset: 0)),
      Slot(name: "words", type: .tensor(TensorType(.string, sizes: [2])), storage: .constant(offset: 64)),
      Slot(name: "h", type: .tensor(row), storage: .arena, firstStep: 0, lastStep: 3),
      Slot(name: "tail", type: .tensor(TensorType(.f32, [2, 4])), storage: .view(of: 4, byteOffset: (n - 2) * 16)),
      Slot(name: "c", type: .tensor(flag), storage: .arena, firstStep: 0, lastStep: 6),
      Slot(name: "late", type: .tensor(TensorType(.f32, [found, 4])), storage: .grown),
      Slot(name: "list", type: .sequence(.optional(.tensor(TensorType(.string, [n])))), storage: .object),
      Slot(name: "m", type: .tensor(TensorType(.i64, [])), storage: .arena, firstStep: 0, lastStep: 6),
      Slot(name: "stack", type: .tensor(TensorType(.f32, [count, 4])), storage: .grown),
      Slot(name: "e", type: .tensor(TensorType(.f32, sizes: [4])), storage: .arena, firstStep: 4, lastStep: 6),
    ]
    let take = Dim(Symbol("take", Interval(-1, 9)))
    plan.shapeSymbols.append(Symbol("take", Interval(-1, 9)))
    plan.slots.append(Slot(name: "sizes", type: .tensor(TensorType(.i32, [2])), storage: .input(1)))
    plan.slots.append(
      Slot(name: "", type: .tensor(TensorType(.u8, sizes: [1 << 20])), storage: .arena, firstStep: 6, lastStep: 7))
    plan.inputs = [
      Binding(name: "x", type: .tensor(row), slot: 0),
      Binding(name: "sizes", type: .tensor(TensorType(.i32, [2])), slot: 12, values: [take, -1]),
    ]
    plan.outputs = [
      Binding(name: "y", type: plan.slots[1].type, slot: 1), Binding(name: "list", type: plan.slots[8].type, slot: 8),
    ]
    plan.images = [KernelImage(target: "x86-64-v3", bytes: Array("not code".utf8))]
    plan.functions = [KernelFunction(image: 0, symbol: "k0"), KernelFunction(image: 0, symbol: "k1")]
    plan.steps = steps(n, found)
    plan.timings = [Timing(work: 10, seconds: 0.25), Timing(work: 1000, seconds: 1.5)]
    plan.profile = Profile(name: "small", ranges: [.init(symbol: "n", min: 1, opt: 8, max: 64)])
    plan.constants = constants()
    plan.auxiliaryLanes = 2
    plan.assignLifetimes()
    return plan
  }

  private static func steps(_ n: Dim, _ found: Dim) -> [Step] {
    let launch = Launch(
      function: 0, buffers: [0, 2, 4], writes: [2], parameters: [n, n.floorDivided(by: 3), .minimum(n, 7)],
      blocks: .maximum(n - 3, 1), scratchBytes: 256)
    let host = HostCall(
      operation: "nonzero", attributes: "count=found", inputs: [4, 3], outputs: [7, 8], boundSymbols: ["found"])
    var loop = Loop(body: [Step(.copy(from: 11, to: 11), name: "copy", tactic: "copy")])
    loop.tripCount = 9
    loop.tripDim = n
    loop.condition = 6
    loop.nextCondition = 6
    loop.carried = [Loop.Carried(initial: 6, current: 6, next: 6, result: nil)]
    loop.stacked = [Loop.Stacked(element: 11, stacked: 10)]
    loop.sliced = [Loop.Sliced(source: 4, element: 11)]
    loop.countSymbol = "count"
    let copy = Step(.copy(from: 7, to: 1), name: "copy", tactic: "copy")
    let product = LibraryCall(
      .matmul(LibraryMatmul(dtype: .f32, resultDType: .f32, isTransposed: true, hasBias: true, activation: .geluTanh)),
      rank: 3, buffers: [0, 2, 11, 4, 13], sizes: [1, n, 4, 4, 0, 0])
    return [
      Step(
        .launch(launch), name: "matmul", sources: ["a/b", "c"], tactic: "gemm", work: n * 32, traffic: n * 16 + 64,
        alternatives: Alternatives(
          region: "graph() -> () {}", constants: [TensorType(.f16, sizes: [3, 5])], tactics: ["gemm", "other"],
          chosen: "gemm", stepCount: 2), lane: 1),
      Step(.bind(slot: 9, symbols: ["found"]), name: "sizes", tactic: "bind"),
      Step(.define([Definition(symbol: "found", size: n * 2)]), name: "sizes", tactic: "bind"),
      Step(.host(host), name: "nonzero", tactic: "host"),
      Step(.branch(condition: 6, then: [copy], else: []), name: "if", tactic: "branch"),
      Step(.loop(loop), name: "loop", tactic: "loop"),
      Step(.library(product), name: "matmul", sources: ["d"], tactic: "cublaslt 3", work: n * 32),
    ]
  }

  private static func constants() -> ConstantSection {
    let words = StringConstants.encode(["straße", ""])
    let storage = HostStorage(byteCount: 64 + words.count)
    let floats = (0..<16).map { Float($0) * 0.5 - 3 }
    floats.withUnsafeBytes {
      storage.base.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(storage.base), byteCount: 64)
    }
    for (index, byte) in words.enumerated() {
      storage.base.storeBytes(of: byte, toByteOffset: 64 + index, as: UInt8.self)
    }
    return ConstantSection(storage: storage, byteCount: 64 + words.count)
  }
}
