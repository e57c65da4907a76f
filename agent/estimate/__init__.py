"""Estimates of a batch's time and cost: `sample` measures posts, `model` computes, `page` formats."""
