"""The starter profile's eyes: OCR, faces, name search and GrabCut."""
