import ApusCore
import ApusGraph

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A gate's non-linear function, with the parameters that some of them have.
package struct GateActivation: Hashable, Sendable {
  package enum Kind: String, CaseIterable, Sendable {
    case sigmoid, tanh, relu, affine, elu, softsign, softplus
    case leakyRelu = "leaky_relu"
    case thresholdedRelu = "thresholded_relu"
    case scaledTanh = "scaled_tanh"
    case hardSigmoid = "hard_sigmoid"

    /// The parameters where none are given; nil for one the function does not have.
    package var defaults: (alpha: Double?, beta: Double?) {
      switch self {
      case .sigmoid, .tanh, .relu, .softsign, .softplus: (nil, nil)
      case .affine: (1, 0)
      case .elu: (1, nil)
      case .leakyRelu: (0.01, nil)
      case .thresholdedRelu: (1, nil)
      case .scaledTanh: (1, 1)
      case .hardSigmoid: (0.2, 0.5)
      }
    }
  }

  package var kind: Kind
  package var alpha: Double
  package var beta: Double

  package init(_ kind: Kind, alpha: Double? = nil, beta: Double? = nil) {
    self.kind = kind
    self.alpha = alpha ?? kind.defaults.alpha ?? 0
    self.beta = beta ?? kind.defaults.beta ?? 0
  }

  func callAsFunction(_ x: Double) -> Double {
    switch kind {
    case .sigmoid: 1 / (1 + exp(-x))
    case .tanh: tanh(x)
    case .relu: x > 0 ? x : 0
    case .affine: alpha * x + beta
    case .elu: x >= 0 ? x : alpha * expm1(x)
    case .softsign: x / (1 + x.magnitude)
    case .softplus: x > 0 ? x + log1p(exp(-x)) : log1p(exp(x))
    case .leakyRelu: x >= 0 ? x : alpha * x
    case .thresholdedRelu: x > alpha ? x : 0
    case .scaledTanh: alpha * tanh(beta * x)
    case .hardSigmoid: min(1, max(0, alpha * x + beta))
    }
  }
}
