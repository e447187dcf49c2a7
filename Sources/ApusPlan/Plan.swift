public import ApusCore

/// A model compiled for one profile and one target: constants, kernel images, steps and what must be known to run them.
///
/// An engine holds a plan for each profile and target. Those of one target share images and functions, all share constants. A plan is a plain value. It names
/// buffers by slot and sizes by ``Dim``; offsets and addresses exist only once a context has bound the plan to shapes.
public struct Plan: Sendable {
  public var name: String
  /// What the model file said of itself (producer, labels, …).
  public var metadata: [String: String]
  public var fingerprint: Fingerprint
  /// Hash of the model's content, which tells models of one name apart.
  public var modelHash: String
  /// Symbols of the inputs' shapes and of elements that decide sizes, each bound by the inputs of a call.
  public var shapeSymbols: [Symbol]
  /// Symbols that steps set while running (data-dependent sizes).
  public var runSymbols: [Symbol]
  public var inputs: [Binding]
  public var outputs: [Binding]
  public var slots: [Slot]
  public var images: [KernelImage]
  /// Names of the functions that launches refer to by index, with the image that holds each.
  public var functions: [KernelFunction]
  public var steps: [Step]
  public var profile: Profile
  /// Most lanes beside the first that the compiler may give steps.
  public var auxiliaryLanes: Int
  /// How long runs took where the engine was built, by increasing work; empty when nothing was measured.
  public var timings: [Timing]
  /// Constants, 256-byte aligned, equal bytes once. Borrowed from the file's mapping when loaded.
  package var constants: ConstantSection

  package init(name: String, fingerprint: Fingerprint) {
    self.name = name
    self.fingerprint = fingerprint
    metadata = [:]
    modelHash = ""
    shapeSymbols = []
    runSymbols = []
    inputs = []
    outputs = []
    slots = []
    images = []
    functions = []
    steps = []
    profile = Profile(name: "default", ranges: [])
    auxiliaryLanes = 0
    timings = []
    constants = ConstantSection()
  }
}

/// An input or output of the model.
public struct Binding: Sendable {
  public var name: String
  public var type: ValueType
  /// Index of the slot that holds it.
  public var slot: Int
  /// The elements of an input that decide sizes: numbers that a call must give, and shape symbols that take what it gives.
  /// Nil for all others.
  public var values: [Dim]?

  public init(name: String, type: ValueType, slot: Int, values: [Dim]? = nil) {
    self.name = name
    self.type = type
    self.slot = slot
    self.values = values
  }
}

/// A place for one tensor (or container) of a run.
public struct Slot: Sendable {
  public enum Storage: Sendable, Hashable {
    /// The caller's memory for input or output `index`.
    case input(Int)
    case output(Int)
    /// Bytes of the constants section.
    case constant(offset: Int)
    /// The context's arena; the offset is planned when shapes are bound.
    case arena
    /// A part of another slot's memory, from a byte offset.
    case view(of: Int, byteOffset: Dim)
    /// A buffer of its own that grows as needed, because its size is known only while running.
    case grown
    /// A host value: sequence, optional or strings.
    case object
  }

  public var name: String
  public var type: ValueType
  public var storage: Storage
  /// First and last step, counting nested steps in order of listing (a branch or loop first, then what it holds), between
  /// which the bytes must stay untouched, uses through views included. Meaningful for `arena` only; set by
  /// ``Plan/assignLifetimes()``.
  public var firstStep: Int
  public var lastStep: Int

  public init(name: String, type: ValueType, storage: Storage, firstStep: Int = 0, lastStep: Int = 0) {
    self.name = name
    self.type = type
    self.storage = storage
    self.firstStep = firstStep
    self.lastStep = lastStep
  }
}

/// Something the runtime does, with what is needed to explain it.
public struct Step: Sendable {
  public indirect enum Action: Sendable {
    case launch(Launch)
    /// Has a library of the device's vendor compute something.
    case library(LibraryCall)
    /// Copies the bytes of one slot into another of equal type; a container is assigned.
    case copy(from: Int, to: Int)
    case host(HostCall)
    /// Sets run symbols from the elements of an integer tensor.
    case bind(slot: Int, symbols: [String])
    /// Sets run symbols to sizes.
    case define([Definition])
    /// Runs one of two step lists, by the bool scalar in a slot.
    case branch(condition: Int, then: [Step], else: [Step])
    case loop(Loop)
    /// Runs a part of the model that was compiled by itself.
    case piece(Piece)
  }

  public var action: Action
  /// What the step is called in tables: the anchor operation and its source.
  public var name: String
  /// Paths of the model's nodes it computes.
  public var sources: [String]
  /// How it is computed: `gemm 12x32`, `loops`, `host`.
  public var tactic: String
  /// Arithmetic operations, and bytes read and written, of one run.
  public var work: Dim
  public var traffic: Dim
  /// Other ways to compute what this step and the next ones compute, where the compiler knew several.
  public var alternatives: Alternatives?
  /// Where a launch, library call or copy is queued: steps of one lane run one after the other, those of different lanes side
  /// by side as far as what they read and write allows. 0 is the stream itself.
  public var lane: Int

  public init(
    _ action: Action, name: String, sources: [String] = [], tactic: String, work: Dim = 0, traffic: Dim = 0,
    alternatives: Alternatives? = nil, lane: Int = 0
  ) {
    self.lane = lane
    self.alternatives = alternatives
    self.action = action
    self.name = name
    self.sources = sources
    self.tactic = tactic
    self.work = work
    self.traffic = traffic
  }
}

/// A run symbol and the size it is set to.
public struct Definition: Sendable {
  public var symbol: String
  public var size: Dim

  public init(symbol: String, size: Dim) {
    self.symbol = symbol
    self.size = size
  }
}

/// A kernel call over virtual blocks.
public struct Launch: Sendable {
  /// Index into ``Plan/functions``.
  public var function: Int
  /// Slots in the order of the kernel's buffers.
  public var buffers: [Int]
  /// Positions among the buffers of those that the kernel writes, in order; the others are only read.
  public var writes: [Int]
  /// Integer arguments, evaluated when shapes are bound.
  public var parameters: [Dim]
  /// Number of virtual blocks; 0 runs nothing.
  public var blocks: Dim
  /// Scratch bytes that each thread working on the launch needs.
  public var scratchBytes: Dim
  /// Tensors that the kernel has copied tile by tile, where the device has an engine for that.
  public var maps: [TensorMap]

  public init(
    function: Int, buffers: [Int], writes: [Int], parameters: [Dim], blocks: Dim, scratchBytes: Dim,
    maps: [TensorMap] = []
  ) {
    self.function = function
    self.buffers = buffers
    self.writes = writes
    self.parameters = parameters
    self.blocks = blocks
    self.scratchBytes = scratchBytes
    self.maps = maps
  }
}

/// A buffer of a launch as a tensor that is copied in boxes to the memory that a block's threads share. Elements of a box
/// lie there in rows of at most 128 bytes, whose 16-byte parts are exchanged so that columns meet all banks; what lies
/// outside of the tensor arrives as zeros.
public struct TensorMap: Sendable, Hashable {
  /// Position among the launch's buffers.
  public var buffer: Int
  public var dtype: DType
  /// Innermost first; one to five.
  public var sizes: [Dim]
  /// Bytes between neighbours along each axis but the innermost, multiples of 16.
  public var strides: [Dim]
  /// Elements of a box along each axis, 256 at most; channels and places of it where there are windows.
  public var box: [Int]
  public var windows: Windows?

  /// Boxes that are walked over the places of windows and not over the tensor: the axes between the channels, innermost, and
  /// the images, outermost.
  public struct Windows: Sendable, Hashable {
    /// Where the first window begins, and the last one, counted from the end of the axis.
    public var lower: [Int]
    public var upper: [Dim]
    /// Elements from one window to the next.
    public var steps: [Int]

    public init(lower: [Int], upper: [Dim], steps: [Int]) {
      self.lower = lower
      self.upper = upper
      self.steps = steps
    }
  }

  public init(buffer: Int, dtype: DType, sizes: [Dim], strides: [Dim], box: [Int], windows: Windows? = nil) {
    self.buffer = buffer
    self.dtype = dtype
    self.sizes = sizes
    self.strides = strides
    self.box = box
    self.windows = windows
  }

  /// What is evaluated when shapes are bound: sizes, strides, and where windows end.
  package var dims: [Dim] { sizes + strides + (windows?.upper ?? []) }
}

/// An operation computed by its host implementation, named as in graph text.
public struct HostCall: Sendable {
  public var operation: String
  /// The attributes in graph text, sizes as ``Dim`` text that is evaluated before the call.
  public var attributes: String
  public var inputs: [Int]
  public var outputs: [Int]
  /// Run symbols set by the call: each is a dim of some output slot's type, and takes that dim's real size.
  public var boundSymbols: [String]

  public init(operation: String, attributes: String, inputs: [Int], outputs: [Int], boundSymbols: [String]) {
    self.operation = operation
    self.attributes = attributes
    self.inputs = inputs
    self.outputs = outputs
    self.boundSymbols = boundSymbols
  }
}

/// A part of a model that was cut out and compiled by itself, with the slots it reads and writes.
///
/// Its plan has inputs, outputs, slots and an arena of its own. Its symbols are those of the plan around it with the same
/// names, so that what is known of an intermediate's size (`16*seq`, `512 - seq`) holds on both sides of a cut.
public struct Piece: Sendable {
  public var plan: Plan
  /// Slots of the plan around it, in the order of the piece's inputs and outputs.
  public var inputs: [Int]
  public var outputs: [Int]
  /// Symbols that the piece sets while running and that later pieces read.
  public var boundSymbols: [String]

  public init(plan: Plan, inputs: [Int], outputs: [Int], boundSymbols: [String]) {
    self.plan = plan
    self.inputs = inputs
    self.outputs = outputs
    self.boundSymbols = boundSymbols
  }
}

/// A loop over compiled steps, in the manner of ONNX Loop and Scan.
public struct Loop: Sendable {
  /// A value handed from one iteration to the next: `initial` is copied to `current` before the first iteration, and
  /// `next` to `current` after each.
  public struct Carried: Sendable {
    public var initial: Int
    public var current: Int
    public var next: Int
    /// Receives the final value.
    public var result: Int?

    public init(initial: Int, current: Int, next: Int, result: Int?) {
      self.initial = initial
      self.current = current
      self.next = next
      self.result = result
    }
  }

  /// A value that every iteration adds a slice to along a new first axis: `element` goes to row i of `stacked`.
  public struct Stacked: Sendable {
    public var element: Int
    public var stacked: Int

    public init(element: Int, stacked: Int) {
      self.element = element
      self.stacked = stacked
    }
  }

  /// A value of which iteration i reads row i into `element`.
  public struct Sliced: Sendable {
    public var source: Int
    public var element: Int

    public init(source: Int, element: Int) {
      self.source = source
      self.element = element
    }
  }

  /// Slots of the i64 trip count and of the bool initial condition, where given.
  public var tripCount: Int?
  /// The trip count when it is a size.
  public var tripDim: Dim?
  public var condition: Int?
  /// Slots the body reads the iteration number and the condition from, where it does.
  public var iteration: Int?
  public var bodyCondition: Int?
  /// Slot of the condition that the body computes.
  public var nextCondition: Int?
  public var carried: [Carried]
  public var stacked: [Stacked]
  public var sliced: [Sliced]
  /// Symbol that receives the number of iterations done.
  public var countSymbol: String?
  public var body: [Step]

  public init(body: [Step]) {
    carried = []
    stacked = []
    sliced = []
    self.body = body
  }
}

/// Compiled code for one target, as the device loads it.
public struct KernelImage: Sendable {
  /// `x86-64-v4`, `sm_90a`, `compute_80`, …
  public var target: String
  public var bytes: [UInt8]

  public init(target: String, bytes: [UInt8]) {
    self.target = target
    self.bytes = bytes
  }
}

/// A function that launches call: its image, its name there, and what each of its blocks takes.
public struct KernelFunction: Sendable, Hashable {
  public var image: Int
  public var symbol: String
  /// Threads of a block; 1 where a block is a unit of work for one thread.
  public var threads: Int
  /// Bytes of memory that the threads of a block share, beyond what the code itself declares.
  public var sharedByteCount: Int

  public init(image: Int, symbol: String, threads: Int = 1, sharedByteCount: Int = 0) {
    self.image = image
    self.symbol = symbol
    self.threads = threads
    self.sharedByteCount = sharedByteCount
  }
}

/// Ranges of the shape symbols a plan is built for, with the sizes it is tuned at. Symbols it does not name are free.
public struct Profile: Sendable, Hashable {
  public struct Range: Sendable, Hashable {
    public var symbol: String
    public var min: Int
    public var opt: Int
    public var max: Int
    /// Sizes, by increasing order, that runs of other sizes are filled up to; empty where every size runs as it is.
    public var steps: [Int]

    /// - Parameter opt: nil for the middle.
    public init(symbol: String, min: Int, opt: Int?, max: Int, steps: [Int] = []) {
      self.symbol = symbol
      self.min = min
      self.opt = opt ?? Range.middle(min, max)
      self.max = max
      self.steps = steps
    }

    /// The size halfway between two.
    package static func middle(_ min: Int, _ max: Int) -> Int {
      (min < 0) == (max < 0) ? min + (max - min) / 2 : (min + max) / 2
    }

    /// `1`, `1..512@256`, or `1/2/4/8@8`.
    package var sizesText: String {
      if !steps.isEmpty { return "\(steps.map(String.init).joined(separator: "/"))@\(opt)" }
      return min == max ? "\(min)" : "\(min)..\(max)@\(opt)"
    }
  }

  public var name: String
  public var ranges: [Range]

  public init(name: String, ranges: [Range]) {
    self.name = name
    self.ranges = ranges
  }

  /// What a symbol is tuned for; nil when the profile does not name it.
  package func opt(of symbol: String) -> Int? { ranges.first { $0.symbol == symbol }?.opt }

  /// Sizes of one symbol.
  public enum Sizes: Sendable, Hashable {
    case fixed(Int)
    /// From `min` to `max`, tuned at `opt`; nil for the middle.
    case range(min: Int, opt: Int? = nil, max: Int)
    /// Rows of a batch: from 1 to the last of some sizes, each filled up to the next of them, tuned at `opt`; nil for the last.
    case filled(to: [Int], opt: Int? = nil)
  }

  /// A profile by symbols: `Profile("prefill", ["seq": .range(min: 1, opt: 256, max: 512)])`.
  public init(_ name: String, _ sizes: [String: Sizes]) {
    self.name = name
    ranges = sizes.sorted { $0.key < $1.key }.map { symbol, sizes in
      switch sizes {
      case .fixed(let size): Range(symbol: symbol, min: size, opt: size, max: size)
      case .range(let min, let opt, let max):
        Range(symbol: symbol, min: min, opt: opt, max: max)
      case .filled(let steps, let opt):
        Range(symbol: symbol, min: 1, opt: opt ?? steps.last ?? 1, max: steps.last ?? 1, steps: steps)
      }
    }
  }
}

/// One measured point of a plan.
public struct Timing: Sendable, Hashable {
  /// Arithmetic operations of the run, as the steps count them.
  public var work: Int
  public var seconds: Double

  public init(work: Int, seconds: Double) {
    self.work = work
    self.seconds = seconds
  }
}

extension [Timing] {
  /// The time that a run of this much work should take: on the line between the points around it, in proportion beyond
  /// them. Nil without points.
  public func seconds(forWork work: Int) -> Double? {
    guard let first, let last else { return nil }
    guard let above = firstIndex(where: { $0.work >= work }) else {
      return last.seconds * Double(work) / Double(Swift.max(last.work, 1))
    }
    if above == 0 { return first.seconds }
    let (low, high) = (self[above - 1], self[above])
    let part = Double(work - low.work) / Double(high.work - low.work)
    return low.seconds + part * (high.seconds - low.seconds)
  }
}

/// What plans need of the machine that runs them and of the program that reads them.
public struct Fingerprint: Sendable, Hashable {
  /// Version of the file format.
  public var format: Int
  /// Version of the compiler that wrote it.
  public var compiler: String
  /// `cpu`, `cuda`.
  public var backend: String
  /// Instruction-set level or architecture, and the features beyond it that code was compiled for.
  public var target: String
  public var features: [String]

  public init(format: Int, compiler: String, backend: String, target: String, features: [String]) {
    self.format = format
    self.compiler = compiler
    self.backend = backend
    self.target = target
    self.features = features
  }
}

/// The constants of a plan as one block of bytes: owned while building, borrowed from a mapped file when loaded.
package struct ConstantSection: Sendable {
  package private(set) var storage: HostStorage
  package private(set) var byteCount: Int

  package init() {
    storage = HostStorage(byteCount: 0)
    byteCount = 0
  }

  package init(storage: HostStorage, byteCount: Int) {
    self.storage = storage
    self.byteCount = byteCount
  }

  package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: storage.base, count: byteCount) }
}
