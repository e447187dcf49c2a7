import ApusCore
import ApusGraph
import ApusPlan
import ApusRuntime
import ApusTesting
import Testing

/// Library calls in plans: made ready once for each shape, recorded with launches, refused where the library is not there.
@Suite struct LibraryCallTests {
  private static let n = Dim(Symbol("n", Interval(0, 64)))

  /// `z = relu(x w + b) w + b`, each product a call, through memory of the arena.
  private static func plan(depth: Dim = 3) -> Plan {
    var plan = Plan(name: "calls", fingerprint: Fingerprint(backend: "cuda", target: "sm_90a", features: []))
    plan.shapeSymbols = [Symbol("n", Interval(0, 64))]
    func slot(_ name: String, _ dtype: DType, _ shape: Shape, _ storage: Slot.Storage) {
      plan.slots.append(Slot(name: name, type: .tensor(TensorType(dtype, shape)), storage: storage))
    }
    slot("x", .f32, [n, 3], .input(0))
    slot("w", .f32, [3, 3], .input(1))
    slot("b", .f32, [3], .input(2))
    slot("h", .f32, [n, 3], .arena)
    slot("workspace", .u8, [1024], .arena)
    slot("z", .f32, [n, 3], .output(0))
    for index in 0..<3 {
      plan.inputs.append(Binding(name: plan.slots[index].name, type: plan.slots[index].type, slot: index))
    }
    plan.outputs = [Binding(name: "z", type: plan.slots[5].type, slot: 5)]
    for (from, to, activation) in [(0, 3, LibraryMatmul.Activation.relu), (3, 5, .none)] {
      let matmul = LibraryMatmul(
        dtype: .f32, resultDType: .f32, isTransposed: false, hasBias: true, activation: activation)
      let call = LibraryCall(.matmul(matmul), rank: 0, buffers: [from, 1, 2, to, 4], sizes: [1, n, 3, depth, 0, 0])
      plan.steps.append(Step(.library(call), name: "matmul", tactic: "cublaslt 0"))
    }
    plan.assignLifetimes()
    return plan
  }

  private static func inputs(_ count: Int) -> [String: HostTensor] {
    [
      "x": RandomTensor.make(.f32, [count, 3], seed: UInt64(count)), "w": RandomTensor.make(.f32, [3, 3], seed: 2),
      "b": RandomTensor.make(.f32, [3], seed: 3),
    ]
  }

  private static func expected(_ inputs: [String: HostTensor]) -> [Double] {
    let (x, w, b) = (inputs["x"]?.doubles ?? [], inputs["w"]?.doubles ?? [], inputs["b"]?.doubles ?? [])
    func layer(_ x: [Double]) -> [Double] {
      x.indices.map { place in
        (0..<3).reduce(b[place % 3]) { $0 + x[place / 3 * 3 + $1] * w[$1 * 3 + place % 3] }
      }
    }
    return layer(layer(x).map { max($0, 0) })
  }

  /// Also on a device whose memory is elsewhere, where calls are recorded among launches.
  @Test(arguments: [false, true]) func callsAreMadeReadyOnceForEachShape(isElsewhere: Bool) throws {
    let device = LibraryDevice()
    let engine = try Engine(plans: [Self.plan()], device: isElsewhere ? RemoteDevice(device) : device)
    let context = try engine.makeContext()
    for count in [4, 4, 4, 9, 9, 4, 0, 9] {
      let inputs = Self.inputs(count)
      let found = try context.run(inputs: inputs)["z"]?.tensor
      #expect(found?.shape == [count, 3])
      #expect(zip(found?.doubles ?? [], Self.expected(inputs)).allSatisfy { abs($0 - $1) < 1e-5 }, "\(count)")
    }
    #expect(device.preparedSizes.map { $0[1] } == [4, 4, 9, 9, 0, 0])
  }

  /// The error says what is needed and what there is.
  @Test func enginesAreRefusedWithoutTheLibrary() throws {
    for (versions, found) in [([:], "not here"), ([Library.cublasLt: 110_502], "11.5.2")] {
      #expect {
        _ = try Engine(plans: [Self.plan()], device: LibraryDevice(versions: versions))
      } throws: { error in
        guard let problem = (error as? EngineFileError)?.problems.first else { return false }
        return problem.code == "APUS-E-0015" && problem.message.contains("cuBLASLt 12.0.0 or newer")
          && problem.message.contains(found) && !problem.hint.isEmpty
      }
    }
    #expect(throws: EngineFileError.self) {
      _ = try Engine(plans: [Self.plan()], device: RemoteDevice(LibraryDevice(versions: [:])))
    }
  }

  /// Sizes that the tensors do not have are found before the library is called.
  @Test func sizesMustFitTheTensors() throws {
    for depth in [Dim(5), Self.n - 1000] {
      let context = try Engine(plans: [Self.plan(depth: depth)], device: LibraryDevice()).makeContext()
      #expect {
        _ = try context.run(inputs: Self.inputs(4))
      } throws: { ($0 as? RunError)?.problems.first?.code == "APUS-R-0012" }
    }
  }

  @Test func wrongCallsAreInvalid() throws {
    func problems(_ change: (inout LibraryCall) -> Void) -> Int {
      var plan = Self.plan()
      guard case .library(var call) = plan.steps[0].action else { return 0 }
      change(&call)
      plan.steps[0].action = .library(call)
      do throws(EngineFileError) { try plan.validate() } catch { return error.problems.count }
      return 0
    }
    #expect(problems { _ in } == 0)
    #expect(problems { $0.rank = 64 } == 1)
    #expect(problems { $0.buffers[0] = 99 } == 1)
    #expect(problems { $0.buffers[4] = 3 } == 1)
    #expect(problems { $0.buffers.removeLast() } > 0)
    #expect(problems { $0.sizes.removeLast() } == 1)
    #expect(problems { $0.sizes[0] = Dim(Symbol("unknown", Interval(0, 9))) } == 1)
    var window = LibraryConvolution(
      dtype: .f32, channels: 4, outputs: 6, groups: 2, kernel: [3, 3], strides: [1, 1], dilations: [1, 1],
      pads: [1, 1], hasBias: true)
    #expect(window.isPossible && window.bufferCount == 5 && window.padsBehind([1, 8, 8, 8, 8]) == [1, 1])
    window.strides = [2, 2]
    #expect(window.padsBehind([1, 8, 7, 4, 4]) == [1, 1] && window.padsBehind([1, 8, 8, 5, 4]) == [2, 1])
    for change: (inout LibraryConvolution) -> Void in [
      { $0.groups = 0 }, { $0.groups = 4 }, { $0.pads = [1] }, { $0.kernel = [] }, { $0.dtype = .f64 },
      { $0.strides = [0, 1] }, { $0.pads = [-1, 0] },
    ] {
      var changed = window
      change(&changed)
      #expect(!changed.isPossible && problems { $0.operation = .convolution(changed) } > 0)
    }
    for dtype in [DType.i32, .f16] {
      #expect(
        problems {
          $0.operation = .matmul(LibraryMatmul(dtype: dtype, resultDType: .f32, isTransposed: false, hasBias: true))
        } > 0)
    }
  }
}
