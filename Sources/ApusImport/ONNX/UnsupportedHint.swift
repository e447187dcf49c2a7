import ApusCore

/// What to do about an operator that is not supported.
enum UnsupportedHint {
  private static let general = "`apus ops` lists what is supported."

  /// - Parameter name: `Conv`, or `com.microsoft::Gelu` for other domains.
  static func text(for name: String, supported: [String]) -> String {
    let parts = name.split(separator: ":", omittingEmptySubsequences: true).map(String.init)
    let (domain, op) = (parts.count > 1 ? parts[0] : "", parts.last ?? name)
    if let rewrite = rewrites[op] ?? domains[domain] { return "\(rewrite) \(general)" }
    let others = supported.filter { $0 != name && $0.split(separator: ":").last.map(String.init) == op }
    if let other = others.first { return "\(other) is supported: use it where the two agree. \(general)" }
    if let nearest = Spelling.nearest(to: op, in: supported) { return "Did you mean '\(nearest)'? \(general)" }
    return "\(general) Export the model without it, or split the model there; `apus reduce` cuts the model to it."
  }

  /// What says the same in operators that are supported.
  static let rewrites = [
    "Gradient": "Export the model for inference, without its gradients.",
    "ATen": "Export with torch.onnx.export(…, dynamo=True), which writes no fallbacks.",
    "EfficientNMS_TRT": "Write it as NonMaxSuppression and Gather.",
    "BatchedNMS_TRT": "Write it as NonMaxSuppression and Gather.",
    "BatchedNMSDynamic_TRT": "Write it as NonMaxSuppression and Gather.",
    "ScatterND_TRT": "Write it as ScatterND.",
    "MultiscaleDeformableAttnPlugin_TRT": "Write it as GridSample and a weighted sum.",
  ]

  /// Domains whose operators exporters and optimisers write only where they are asked to.
  static let domains = [
    "com.microsoft":
      "Take the model as it was before onnxruntime optimised it (ORT_ENABLE_BASIC keeps the operators of ONNX).",
    "com.microsoft.nchwc": "Take the model as it was before onnxruntime laid it out for one machine.",
    "com.ms.internal.nhwc": "Take the model as it was before onnxruntime laid it out for one machine.",
    "ai.onnx.preview.training": "Export the model for inference.",
    "ai.onnx.training": "Export the model for inference.",
    "org.pytorch.aten": "Export with torch.onnx.export(…, dynamo=True), which writes no fallbacks.",
    "trt.plugins": "Export without TensorRT's plugins.",
    "ai.onnx.ml": "Run the classical part of the model, before or behind, by the library it comes from.",
  ]
}
