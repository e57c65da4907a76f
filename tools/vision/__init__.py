"""Vision of the starter profile: OCR, faces, name search and GrabCut."""
