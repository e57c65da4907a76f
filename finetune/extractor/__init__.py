"""Training of the extractor, one vision-language model for names, types and boxes: SFT and GRPO by trl's trainers."""
