import ApusCore

/// What a flag of trtexec comes to here.
enum TrtexecMeaning {
  /// It is done. Flags that take none have no value.
  case done(takesValue: Bool)
  /// It is taken and changes nothing, for this reason.
  case noted(String)
  /// Going on without it would give something else than was asked for.
  case refused(String)
}

/// The flags of trtexec 10 and 11 by name: the only list of them.
enum TrtexecFlags {
  static let meanings: [String: TrtexecMeaning] = {
    var meanings: [String: TrtexecMeaning] = [:]
    for name in valued { meanings[name] = .done(takesValue: true) }
    for name in switches { meanings[name] = .done(takesValue: false) }
    for (reason, names) in noted { for name in names { meanings[name] = .noted(reason) } }
    for (reason, names) in refused { for name in names { meanings[name] = .refused(reason) } }
    return meanings
  }()

  /// All names, as they are listed.
  static let names = valued + switches + noted.flatMap(\.names) + refused.flatMap(\.names)

  private static let valued = [
    "onnx", "loadEngine", "saveEngine", "minShapes", "optShapes", "maxShapes", "profile", "shapes", "useProfile",
    "device",
    "builderOptimizationLevel", "maxAuxStreams", "timingCacheFile", "iterations", "warmUp", "duration", "sleepTime",
    "avgRuns", "percentile", "loadInputs", "exportTimes", "exportOutput", "exportProfile", "exportLayerInfo", "backend",
  ]

  private static let switches = [
    "skipInference", "buildOnly", "noCudaGraph", "dumpOutput", "dumpProfile", "dumpLayerInfo", "verbose", "cpuOnly",
    "allow-host-ops",
  ]

  private static let noted: [(reason: String, names: [String])] = [
    (
      "what it asks for is so in any case",
      [
        "useCudaGraph", "useSpinWait", "noDataTransfers", "separateProfileRun", "stronglyTyped", "noTF32",
        "asyncFileReader",
        "profilingVerbosity", "explicitBatch", "timeDeserialize",
      ]
    ),
    (
      "types are those of the model: lower precision is not chosen yet",
      [
        "fp16", "bf16", "fp8", "int8", "int4", "best", "calib", "calibProfile", "minShapesCalib", "optShapesCalib",
        "maxShapesCalib", "layerPrecisions", "layerOutputTypes", "precisionConstraints",
      ]
    ),
    (
      "times are of the device with inputs and outputs in its memory; `apus bench` measures copies",
      ["includeDataTransfers", "exposeDMA", "useManagedMemory"]
    ),
    ("one stream is measured", ["infStreams", "streams", "threads"]),
    (
      "memory is planned by profile, and nothing of it is set aside",
      ["memPoolSize", "workspace", "allocationStrategy", "persistentCacheRatio", "l2LimitForTiling", "monitorMemory"]
    ),
    (
      "how hard to look for kernels is what --builderOptimizationLevel says",
      [
        "maxTactics", "avgTiming", "minTiming", "tilingOptimizationLevel", "tacticSources", "preview", "sparsity",
        "decomposableAttentions", "noBuilderCache", "noCompilationCache", "pluginInstanceNorm",
      ]
    ),
    (
      "engines need no runtime library, and any Apus of the same version reads them",
      ["versionCompatible", "vc", "excludeLeanRuntime", "leanDLLPath", "useRuntime", "runtimePlatform", "restricted"]
    ),
    ("there is nothing to wait for between runs", ["idleTime", "noSpinWait"]),
    ("engines are not refitted", ["dumpRefit", "timeRefit", "tempdir", "tempfileControls", "dumpOptimizationProfile"]),
  ]

  private static let refused: [(reason: String, names: [String])] = [
    (
      "plugins of TensorRT are not run",
      [
        "plugins", "staticPlugins", "dynamicPlugins", "setPluginsToSerialize", "ignoreParsedPluginLibs",
        "safetyPlugins",
        "enablePluginOverride",
      ]
    ),
    (
      "there is no deep-learning accelerator to run on",
      [
        "useDLACore", "allowGPUFallback", "buildDLAStandalone", "uint8AsymmetricQuantizationDLA", "reportCapabilityDLA",
        "adjustForDLA", "layerDeviceTypes",
      ]
    ),
    (
      "engines carry their weights, as they were given",
      [
        "refit", "stripWeights", "stripAllWeights", "weightless", "refitFromOnnx", "allowWeightStreaming",
        "weightStreamingBudget",
      ]
    ),
    ("inputs and outputs are dense, last dimension first", ["inputIOFormats", "outputIOFormats"]),
    (
      "that is not done; an engine for other GPUs is built by `apus build --target sm_80,sm_90a,compute_80`",
      ["hardwareCompatibilityLevel"]
    ),
    (
      "`apus run --compare FOLDER` compares outputs",
      ["loadRefOutputs", "accuracyThreshold", "accuracyAlgorithm", "refPair", "atol", "rtol"]
    ),
    (
      "that is not done",
      [
        "markDebug", "markUnfusedTensorsAsDebugTensors", "saveDebugTensors", "saveAllDebugTensors", "safe",
        "consistency",
        "dumpKernelText", "remoteAutoTuningConfig", "getPlanVersionOnly", "tuneBuildRoutes", "tuneBuildRouteFile",
        "tuningSearch", "tuningCacheFile", "tuningTimeOut", "saveAllEngines", "dryRun", "continue", "helpBuildRoute",
        "setBuildRoute", "errorOnTimingCacheMiss", "dumpRawBindingsToFile", "uff", "deploy", "model", "caffe",
      ]
    ),
  ]
}

/// A command line of trtexec, checked.
struct TrtexecRequest {
  private(set) var values: [String: String] = [:]
  /// Flags of profiles, in the order typed.
  private(set) var profileWords: [String] = []
  /// Flags that change nothing, with the reason.
  private(set) var notes: [String] = []

  var iterations = 10
  var warmUp = 200.0
  var duration = 3.0
  var sleep = 0.0
  var averagedRuns = 10
  var percentiles = [90.0, 95, 99]
  var level = 3
  var useProfile: Int?

  func has(_ name: String) -> Bool { values[name] != nil }

  var skipsInference: Bool { has("skipInference") || has("buildOnly") }

  /// - Throws: ``UsageError`` with every mistake: `APUS-C-0036` flags that are not known or cannot be followed, `-0037` their
  ///   values, `-0026` no model or two.
  init(_ words: [String]) throws(UsageError) {
    var problems = UsageProblems()
    for word in words { read(word, &problems) }
    count("iterations", 0...1_000_000_000, &iterations, &problems)
    count("avgRuns", 1...1_000_000, &averagedRuns, &problems)
    count("builderOptimizationLevel", 0...5, &level, &problems)
    number("warmUp", 0...3_600_000, &warmUp, &problems)
    // -1 goes on until the process is ended.
    if values["duration"] == "-1" { duration = .infinity } else { number("duration", 0...86_400, &duration, &problems) }
    number("sleepTime", 0...60_000, &sleep, &problems)
    if has("useProfile") {
      var index = 0
      count("useProfile", 0...9_999, &index, &problems)
      useProfile = index
    }
    if let text = values["percentile"] {
      let shares = text.split(separator: ",").compactMap { Double($0) }
      if shares.count != text.split(separator: ",").count || !shares.allSatisfy((0...100).contains) {
        problems.add("APUS-C-0037", "'\(text)' are no percentages", place: "--percentile=\(text)")
      } else {
        percentiles = shares
      }
    }
    if let device = values["device"], device != "0" {
      problems.add(
        "APUS-C-0037", "the first GPU is used, others are not", place: "--device=\(device)",
        hint: "Make another the first: CUDA_VISIBLE_DEVICES=\(device).")
    }
    if has("onnx") == has("loadEngine") {
      problems.add(
        "APUS-C-0026", has("onnx") ? "both --onnx and --loadEngine are given" : "there is no model", place: "trtexec",
        hint: "Give --onnx=MODEL.onnx, or --loadEngine=ENGINE.apus.")
    }
    try problems.throwIfAny()
  }

  private mutating func read(_ word: String, _ problems: inout UsageProblems) {
    let parts = word.drop { $0 == "-" }.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard word.hasPrefix("-"), let name = parts.first.map(String.init), let meaning = TrtexecFlags.meanings[name] else {
      let known = TrtexecFlags.meanings.keys.sorted().map { "--\($0)" }
      problems.add("APUS-C-0036", "trtexec has no such flag", place: word, hint: Spelling.hint(for: word, in: known))
      return
    }
    let value = parts.count > 1 ? String(parts[1]) : nil
    switch meaning {
    case .refused(let reason): problems.add("APUS-C-0036", reason, place: "--\(name)")
    case .noted(let reason): notes.append("--\(name) changes nothing: \(reason)")
    case .done(let takesValue):
      if takesValue != (value?.isEmpty == false) {
        let what = takesValue ? "a value follows '='" : "there is no value"
        problems.add(
          "APUS-C-0037", what, place: word, hint: takesValue ? "For instance --\(name)=…" : "Write --\(name).")
      }
      values[name] = value ?? ""
      if ["minShapes", "optShapes", "maxShapes", "profile"].contains(name) { profileWords.append(word) }
    }
  }

  private func count(_ name: String, _ range: ClosedRange<Int>, _ target: inout Int, _ problems: inout UsageProblems) {
    guard let text = values[name] else { return }
    if let value = Int(text), range.contains(value) { return target = value }
    problems.add(
      "APUS-C-0037", "\(range.lowerBound) to \(range.upperBound) are possible", place: "--\(name)=\(text)")
  }

  private func number(
    _ name: String, _ range: ClosedRange<Double>, _ target: inout Double, _ problems: inout UsageProblems
  ) {
    guard let text = values[name] else { return }
    if let value = Double(text), range.contains(value) { return target = value }
    problems.add(
      "APUS-C-0037", "\(range.lowerBound) to \(range.upperBound) are possible", place: "--\(name)=\(text)")
  }
}
