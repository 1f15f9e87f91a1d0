"""UHD data: public layouts, paired and synthetic datasets, crops. Needs OpenCV and Pillow."""
