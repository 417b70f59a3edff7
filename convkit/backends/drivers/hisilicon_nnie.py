"""Caffe networks read and run by OpenCV's dnn module, which shares no code with the writer."""

from importlib.metadata import version

from _protocol import Refused, load_arrays, save_arrays, serve


def run(request):
    """Run `prototxt` with the weights `caffemodel` on `arrays`, one for each of `inputs`.

    `outputs` are the tops to give: a layer's name and the number of the top there.
    """
    import cv2

    try:
        net = cv2.dnn.readNetFromCaffe(request["prototxt"], request["caffemodel"])
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.enableFusion(False)  # it takes a Scale over rows and columns for one over channels
        for name, array in zip(request["inputs"], load_arrays(request["arrays"])):
            net.setInput(cv2.Mat(array, wrap_channels=False), name)  # three dimensions are no image
        blobs = net.forwardAndRetrieve([layer for layer, _ in request["outputs"]])
        found = [tops[index] for tops, (_, index) in zip(blobs, request["outputs"])]
    except cv2.error as said:
        raise Refused(f"OpenCV's Caffe reader: {said}") from said
    save_arrays("outputs.npz", found)
    return {"runtime": f"OpenCV {version('opencv-python-headless')}, dnn"}


if __name__ == "__main__":
    serve(run=run)
