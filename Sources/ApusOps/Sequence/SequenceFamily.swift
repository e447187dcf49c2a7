import ApusGraph

/// Operations on sequences and optionals, computed on the host.
enum SequenceFamily {
  static let operations: [Catalogue.Entry] = [
    (["sequence_construct"], SequenceConstruct.self), (["sequence_empty"], SequenceEmpty.self),
    (["sequence_insert"], SequenceInsert.self), (["sequence_erase"], SequenceErase.self),
    (["sequence_at"], SequenceAt.self), (["sequence_length"], SequenceLength.self),
    (["concat_from_sequence"], ConcatFromSequence.self), (["split_to_sequence"], SplitToSequence.self),
    (["optional"], OptionalWrap.self), (["optional_has_element"], OptionalHasElement.self),
    (["optional_get_element"], OptionalGetElement.self),
  ]
}
