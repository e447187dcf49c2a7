import ApusGraph

/// Operations that draw random numbers.
enum RandomFamily {
  static let operations: [Catalogue.Entry] = [
    (RandomFill.Distribution.allCases.map(\.rawValue), RandomFill.self), (["random_bernoulli"], Bernoulli.self),
    (["random_multinomial"], Multinomial.self),
  ]
}
