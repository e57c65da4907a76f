"""Readers and writers of annotation tools: labelme, COCO and Label Studio."""
